"""Tests that TensorProto is read as by TensorFlow, and written for callers without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.domain.servable import InputSpec, ServableId
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.tensorflow_serving.tensors import check_outputs, format_output, parse_faces
from ferserve_server.services.limits import RequestLimits
from support.compat import crops, tfs

WANTED = InputSpec("faces", 48, 48)
LIMITS = RequestLimits(2**20, 2**10, 8, 8, 640)
DT_FLOAT, DT_UINT8, DT_STRING, DT_INT64 = 1, 4, 7, 9


def tensor(shape, dtype=DT_UINT8, **fields):
    made = message_class("tensorflow.TensorProto")(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def parse(proto, name="faces"):
    request = tfs("PredictRequest")
    request.inputs[name].CopyFrom(proto)
    return parse_faces(request, WANTED, LIMITS)


FACES = crops(1, 2, 3)
LIST = FACES.ravel().tolist()


@pytest.mark.parametrize(
    "proto",
    [
        tensor(FACES.shape, tensor_content=FACES.tobytes()),
        tensor(FACES.shape, int_val=LIST),
        tensor(FACES.shape[:3], int_val=LIST),
        tensor(FACES.shape, DT_FLOAT, float_val=LIST),
        tensor(FACES.shape, DT_FLOAT, tensor_content=FACES.astype("<f4").tobytes()),
        tensor(FACES.shape, int_val=[value | 0x7FFFFF00 for value in LIST]),
    ],
    ids=["content", "list", "no channel", "floats", "float content", "low byte counts"],
)
def test_each_form_of_a_tensor_gives_the_same_faces(proto):
    parsed = parse(proto)
    assert parsed.dtype == np.uint8
    assert np.array_equal(parsed, FACES)


def test_a_short_list_goes_on_with_its_last_element():
    assert (parse(tensor([2, 48, 48, 1], int_val=[1, 9])).ravel()[1:] == 9).all()


def test_encoded_crops_are_strings():
    assert parse(tensor([2], DT_STRING, string_val=[b"a", b"b"]), "images") == [b"a", b"b"]


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (tensor([1, 48, 48, 1], DT_INT64), "TENSOR_TYPE_INVALID"),
        (tensor([1, 48, 48, 3], tensor_content=b"x"), "TENSOR_SHAPE_INVALID"),
        (tensor([-1, 48, 48, 1], tensor_content=b"x"), "TENSOR_SHAPE_INVALID"),
        (tensor([2**62, 48, 48, 1], tensor_content=b"x"), "TOO_MANY_FACES"),
        (tensor([0, 48, 48, 1]), "FACES_REQUIRED"),
        (tensor([1, 48, 48, 1], tensor_content=b"x"), "TENSOR_LENGTH_MISMATCH"),
        (tensor([1, 48, 48, 1]), "TENSOR_LENGTH_MISMATCH"),
        (tensor([1, 48, 48, 1], int_val=[*LIST]), "TENSOR_LENGTH_MISMATCH"),
        (tensor([1, 48, 48, 1], DT_FLOAT, float_val=[0.5]), "GREY_LEVEL_INVALID"),
    ],
)
def test_what_is_not_a_batch_of_faces_is_rejected_by_reason(proto, reason):
    with pytest.raises(FerserveError) as caught:
        parse(proto)
    assert caught.value.reason == reason


def test_a_tensor_without_a_shape_is_rejected():
    proto = tensor([], tensor_content=b"x")
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(FerserveError, match="no shape"):
        parse(proto)


@pytest.mark.parametrize("shape", [[2], [1, 2]])
def test_strings_that_do_not_fit_their_shape_are_rejected(shape):
    with pytest.raises(FerserveError):
        parse(tensor(shape, DT_STRING, string_val=[b"a"]), "images")


def test_outputs_are_lists_of_their_type():
    scores = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    found = Classification(ScoredFaces(scores), ("angry", "happy"), ServableId("fer", 1))
    probabilities = format_output("probabilities", found)
    assert list(probabilities.float_val) == [0.25, 0.75, 1.0, 0.0]
    assert [dim.size for dim in probabilities.tensor_shape.dim] == [2, 2]
    labels = format_output("labels", found)
    assert list(labels.string_val) == [b"happy", b"angry"]
    assert [dim.size for dim in labels.tensor_shape.dim] == [2]


def test_unknown_outputs_are_rejected():
    assert check_outputs([]) == ["probabilities", "labels"]
    assert check_outputs(["labels"]) == ["labels"]
    with pytest.raises(FerserveError, match="logits"):
        check_outputs(["labels", "logits"])
