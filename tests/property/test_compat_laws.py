"""Tests laws of the other servers' interfaces: values round-trip, and only clear errors are raised."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.servable import InputSpec
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference import tensors as oip_tensors
from ferserve_server.interop.open_inference.outputs import best_classes
from ferserve_server.interop.tensorflow_serving import tensors as tfs_tensors
from ferserve_server.services.limits import RequestLimits
from support.compat import infer_request, oip, tfs

WANTED = InputSpec("faces", 2, 3)
LIMITS = RequestLimits(2**20, 2**10, 8, 8, 640)
FACES = st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 8), st.just(2), st.just(3), st.just(1)))
SIDES = st.one_of(st.integers(-2, 9), st.integers(-(2**63), 2**63 - 1))


def assert_faces_or_a_clear_error(parse, request):
    try:
        found = parse(request, WANTED, LIMITS)
    except FerserveError as error:
        found = error
    if isinstance(found, FerserveError):
        assert found.field
    else:
        assert 1 <= len(found) <= LIMITS.max_faces_per_request


@given(FACES, st.booleans(), st.sampled_from([np.uint8, np.float32]))
def test_raw_or_typed_faces_come_out_as_they_went_in(faces, raw, dtype):
    given_faces = faces.astype(dtype)
    parsed = oip_tensors.parse_faces(infer_request(given_faces, raw=raw), WANTED, LIMITS)
    assert np.array_equal(parsed, faces)


@given(
    name=st.sampled_from(["faces", "images", ""]),
    datatype=st.sampled_from(["UINT8", "FP32", "BYTES", "INT64", ""]),
    shape=st.lists(SIDES, max_size=6),
    raw=st.none() | st.binary(max_size=64),
    typed=st.lists(st.integers(0, 2**32 - 1), max_size=20),
)
def test_no_tensor_brings_the_parser_down(name, datatype, shape, raw, typed):
    request = oip("ModelInferRequest")
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    tensor.contents.uint_contents.extend(typed)
    if raw is not None:
        tensor.ClearField("contents")
        request.raw_input_contents.append(raw)
    assert_faces_or_a_clear_error(oip_tensors.parse_faces, request)


@given(
    name=st.sampled_from(["faces", "images"]),
    dtype=st.integers(0, 30),
    shape=st.lists(SIDES, max_size=6),
    content=st.binary(max_size=64),
    ints=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
    floats=st.lists(st.floats(width=32), max_size=20),
)
def test_no_tensor_proto_brings_the_parser_down(name, dtype, shape, content, ints, floats):
    request = tfs("PredictRequest")
    tensor = request.inputs[name]
    tensor.CopyFrom(
        message_class("tensorflow.TensorProto")(
            dtype=dtype, tensor_content=content, int_val=ints, float_val=floats
        )
    )
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    assert_faces_or_a_clear_error(tfs_tensors.parse_faces, request)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_elements_are_taken_apart_as_they_were_joined(elements):
    assert oip_tensors.split_elements(oip_tensors.join_elements(elements), len(elements), "") == elements


@given(st.binary(max_size=40), st.integers(0, 8))
def test_bytes_are_elements_or_an_error(raw, count):
    try:
        elements = oip_tensors.split_elements(raw, count, "images")
    except FerserveError:
        return
    assert oip_tensors.join_elements(elements) == raw
    assert len(elements) == count


@given(
    st_numpy.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(0, 1, width=32)),
    st.integers(1, 4),
)
def test_the_best_classes_fall_and_begin_with_the_best(scores, count):
    texts = best_classes(scores, ("a", "b", "c", "d"), count)
    indices = np.array([int(text.split(b":")[1]) for text in texts]).reshape(len(scores), count)
    chosen = np.take_along_axis(scores, indices, axis=1)
    assert (np.diff(chosen, axis=1) <= 0).all()
    assert np.array_equal(indices[:, 0], scores.argmax(axis=1))
