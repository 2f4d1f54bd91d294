"""Tests that faces come out of tensors as they went in, or with an error that says what to send."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve_server.domain.errors import FerserveError, LimitExceededError, UnsupportedError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import InputSpec, ModelSpec
from ferserve_server.interop.faces import parse_spec
from ferserve_server.interop.open_inference.parameters import parse_deadline, parse_flag, parse_priority
from ferserve_server.interop.open_inference.tensors import join_elements, parse_faces, split_elements
from ferserve_server.services.limits import RequestLimits
from support.compat import crops, infer_request, oip

WANTED = InputSpec("faces", 48, 48)
LIMITS = RequestLimits(2**20, 2**10, 8, 8, 640)


def parse(request):
    return parse_faces(request, WANTED, LIMITS)


def rejection(request):
    with pytest.raises(FerserveError) as caught:
        parse(request)
    return caught.value


def images(*encoded, shape=None):
    request = oip("ModelInferRequest", raw_input_contents=[join_elements(list(encoded))])
    request.inputs.add(name="images", datatype="BYTES", shape=shape or [len(encoded)])
    return request


def changed(change):
    request = infer_request(crops(1, 2))
    change(request)
    return request


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("raw", [True, False])
def test_raw_and_typed_pixels_are_the_same_faces(dtype, raw):
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1)).astype(dtype)
    parsed = parse(infer_request(faces, raw=raw))
    assert parsed.dtype == np.uint8
    assert np.array_equal(parsed, faces)


def test_the_channel_may_be_left_out():
    assert parse(infer_request(crops(1, 2).reshape(2, 48, 48))).shape == (2, 48, 48, 1)


def test_fractions_of_grey_levels_are_rounded():
    faces = np.full((1, 48, 48, 1), 99.6, np.float32)
    assert (parse(infer_request(faces)) == 100).all()


def test_encoded_crops_come_out_one_by_one():
    assert parse(images(b"one", b"", b"three")) == [b"one", b"", b"three"]
    assert parse(images(b"one", b"two", shape=[2, 1])) == [b"one", b"two"]


def test_typed_encoded_crops_come_out_as_well():
    request = oip("ModelInferRequest")
    request.inputs.add(name="images", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", b"b"])
    assert parse(request) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (oip("ModelInferRequest"), "INPUT_INVALID"),
        (changed(lambda r: r.inputs.add(name="more")), "INPUT_INVALID"),
        (changed(lambda r: setattr(r.inputs[0], "name", "pixels")), "INPUT_INVALID"),
        (changed(lambda r: setattr(r.inputs[0], "datatype", "INT64")), "TENSOR_TYPE_INVALID"),
        (changed(lambda r: r.inputs[0].ClearField("shape")), "TENSOR_SHAPE_INVALID"),
        (changed(lambda r: r.inputs[0].shape.append(1)), "TENSOR_SHAPE_INVALID"),
        (changed(lambda r: r.inputs[0].shape.__setitem__(0, -1)), "TENSOR_SHAPE_INVALID"),
        (changed(lambda r: r.inputs[0].shape.__setitem__(1, 47)), "TENSOR_SHAPE_INVALID"),
        (changed(lambda r: r.inputs[0].shape.__setitem__(0, 0)), "FACES_REQUIRED"),
        (changed(lambda r: r.inputs[0].shape.__setitem__(0, 3)), "TENSOR_LENGTH_MISMATCH"),
        (changed(lambda r: r.raw_input_contents.append(b"x")), "INPUT_INVALID"),
        (changed(lambda r: r.inputs[0].contents.uint_contents.append(1)), "INPUT_INVALID"),
        (changed(lambda r: r.ClearField("raw_input_contents")), "TENSOR_LENGTH_MISMATCH"),
        (infer_request(np.full((1, 48, 48, 1), 256, np.float32)), "GREY_LEVEL_INVALID"),
        (infer_request(np.full((1, 48, 48, 1), np.nan, np.float32)), "GREY_LEVEL_INVALID"),
        (infer_request(np.full((1, 48, 48, 1), -1, np.float32)), "GREY_LEVEL_INVALID"),
        (infer_request(np.full((1, 48, 48, 1), 0.5, np.float32)), "GREY_LEVEL_INVALID"),
        (images(b"one", shape=[2]), "TENSOR_LENGTH_MISMATCH"),
        (images(b"one", b"two", shape=[1]), "TENSOR_LENGTH_MISMATCH"),
        (images(b"one", shape=[1, 2]), "TENSOR_SHAPE_INVALID"),
    ],
)
def test_what_is_not_a_batch_of_faces_is_rejected_by_reason(request_, reason):
    assert rejection(request_).reason == reason


def test_a_typed_pixel_beyond_a_byte_is_rejected():
    request = infer_request(crops(1), raw=False)
    request.inputs[0].contents.uint_contents[7] = 256
    assert rejection(request).reason == "GREY_LEVEL_INVALID"


def test_a_shape_whose_product_wraps_around_64_bits_is_rejected_before_anything_is_made():
    request = infer_request(crops(1))
    request.inputs[0].shape[0] = 2**62
    assert isinstance(rejection(request), LimitExceededError)


def test_a_tensor_in_shared_memory_is_not_offered():
    request = oip("ModelInferRequest")
    tensor = request.inputs.add(name="faces", datatype="UINT8", shape=[1, 48, 48, 1])
    tensor.parameters["shared_memory_region"].string_param = "region"
    assert isinstance(rejection(request), UnsupportedError)


@pytest.mark.parametrize("raw", [b"\x01", b"\x05\0\0\0abc", b"\x01\0\0\0a\x01", b"\xff\xff\xff\xffabcd"])
def test_elements_that_do_not_add_up_are_rejected(raw):
    with pytest.raises(FerserveError, match="4 bytes"):
        split_elements(raw, 1, "images")


@pytest.mark.parametrize("field", ["int64_param", "uint64_param"])
def test_priority_is_read_from_old_and_new_clients(field):
    def priority(level):
        return parse_priority({"priority": oip("InferParameter", **{field: level})})

    assert [priority(level) for level in (0, 1, 2, 9)] == [
        Priority.INTERACTIVE,
        Priority.INTERACTIVE,
        Priority.BULK,
        Priority.BULK,
    ]


def test_detect_is_yes_or_no():
    def detect(**choice):
        return parse_flag({"detect": oip("InferParameter", **choice)}, "detect")

    assert detect(bool_param=True)
    assert not detect(bool_param=False)
    assert not parse_flag({}, "detect")
    with pytest.raises(FerserveError, match="bool_param"):
        detect(int64_param=1)


def test_an_absent_priority_is_interactive_and_is_not_put_in():
    request = oip("ModelInferRequest")
    assert parse_priority(request.parameters) is Priority.INTERACTIVE
    assert not request.parameters


@pytest.mark.parametrize("parameter", [{"int64_param": -1}, {"string_param": "1"}, {}])
def test_a_priority_that_is_no_count_is_rejected(parameter):
    with pytest.raises(FerserveError, match="priority"):
        parse_priority({"priority": oip("InferParameter", **parameter)})


def test_the_earlier_of_timeout_and_deadline_counts():
    timeout = {"timeout": oip("InferParameter", int64_param=1_500_000)}
    assert parse_deadline(timeout, 10.0, None) == pytest.approx(11.5)
    assert parse_deadline(timeout, 10.0, 11.0) == pytest.approx(11.0)
    assert parse_deadline({}, 10.0, 12.0) == pytest.approx(12.0)
    assert parse_deadline({}, 10.0, None) is None


def test_versions_are_numbers_or_aliases():
    assert parse_spec("fer", "") == ModelSpec("fer")
    assert parse_spec("", "12") == ModelSpec("", 12)
    assert parse_spec("fer", "stable") == ModelSpec("fer", alias="stable")
    for version in ("0", "-1", "a b", "1.0", "\u0661", "9" * 40):
        with pytest.raises(FerserveError, match="model_version"):
            parse_spec("fer", version)
