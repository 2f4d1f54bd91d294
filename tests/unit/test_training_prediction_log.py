import pytest

from ferserve_training.export.prediction_log import prediction_log
from support.compat import tfs


def varint(content):
    value = shift = 0
    for index, byte in enumerate(content):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, content[index + 1 :]
    raise AssertionError("the number does not end")


def inside(key, content):
    """The one length-delimited field of that key, which must be all there is."""
    assert content[0] == key
    length, rest = varint(content[1:])
    assert length == len(rest)
    return rest


@pytest.mark.parametrize("face_count", [1, 8, 127])
def test_a_record_holds_the_request_that_the_interface_reads(face_count):
    tensor = tfs("PredictRequest").inputs["faces"]
    tensor.dtype, tensor.tensor_content = 4, bytes(face_count * 48 * 48)
    for size in (face_count, 48, 48, 1):
        tensor.tensor_shape.dim.add(size=size)

    record = prediction_log("fer-nano", "faces", tensor.SerializeToString())

    predict_log = inside(6 << 3 | 2, record)
    request = tfs("PredictRequest")
    request.ParseFromString(inside(1 << 3 | 2, predict_log))
    assert (request.model_spec.name, request.model_spec.signature_name) == ("fer-nano", "serving_default")
    assert set(request.inputs) == {"faces"}
    assert request.inputs["faces"] == tensor
