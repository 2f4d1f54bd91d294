"""Tests messages of very many tiny parts (faults, item 5)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.servable import InputSpec
from ferserve_server.interop import faces
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference import tensors as open_inference_tensors
from ferserve_server.interop.tensorflow_serving import tensors as tensorflow_tensors
from ferserve_server.services.limits import RequestLimits
from ferserve_server.services.message_parts import count_parts
from ferserve_server.services.reading import UnreadableMessage, deserializer

if TYPE_CHECKING:
    from collections.abc import Callable

INFER = message_class("inference.ModelInferRequest")
PREDICT = message_class("tensorflow.serving.PredictRequest")
LIMITS = RequestLimits(32 << 20, 16 << 10, 512, 32, 4096)
LONGEST_S = 0.05
"""Longest that one message may keep the event loop, of processor time."""


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _number(kind: Any, *names: str) -> int:
    descriptor = kind.DESCRIPTOR
    for name in names[:-1]:
        descriptor = descriptor.fields_by_name[name].message_type
    return int(descriptor.fields_by_name[names[-1]].number)


ATTACKS = {
    "empty inputs": (INFER, _field(_number(INFER, "inputs"), b"") * 4_000_000),
    "empty outputs": (INFER, _field(_number(INFER, "outputs"), b"") * 4_000_000),
    "parameters": (INFER, _field(_number(INFER, "parameters"), b"") * 4_000_000),
    "empty raw contents": (INFER, _field(_number(INFER, "raw_input_contents"), b"") * 4_000_000),
    "parameters of an input": (
        INFER,
        _field(_number(INFER, "inputs"), _field(_number(INFER, "inputs", "parameters"), b"\x0a\x011") * 1_000_000),
    ),
    "numbers one by one": (
        INFER,
        _field(_number(INFER, "inputs"), bytes([_number(INFER, "inputs", "shape") << 3, 1]) * 4_000_000),
    ),
    "a shape of millions": (
        INFER,
        _field(_number(INFER, "inputs"), _field(_number(INFER, "inputs", "shape"), b"\x01" * 30_000_000)),
    ),
    "inputs of TensorFlow Serving": (PREDICT, _field(_number(PREDICT, "inputs"), b"\x0a\x011") * 2_000_000),
    "its output filter": (PREDICT, _field(_number(PREDICT, "output_filter"), b"") * 4_000_000),
    "our images": (
        emotion_pb2.AnalyzeImagesRequest,
        _field(_number(emotion_pb2.AnalyzeImagesRequest, "images"), b"") * 4_000_000,
    ),
    "a field that nobody knows": (INFER, _field(1000, b"") * 4_000_000),
    "groups": (INFER, b"\x0b" * 4_000_000),
    "no varints": (INFER, b"\x80" * 4_000_000),
}


@pytest.mark.parametrize(("kind", "message"), ATTACKS.values(), ids=ATTACKS)
def test_a_message_of_very_many_parts_is_rejected_before_it_is_built(kind: Any, message: bytes) -> None:
    read = deserializer(kind)
    took_s = []
    for _ in range(3):  # a collection of the tests' own garbage may fall into one
        started_at = time.thread_time()
        found = read(message)
        took_s.append(time.thread_time() - started_at)
        assert isinstance(found, UnreadableMessage)
        assert found.error().reason in {"MESSAGE_TOO_MANY_PARTS", "MESSAGE_UNREADABLE"}
    assert min(took_s) < LONGEST_S


def test_messages_as_clients_send_them_are_read() -> None:
    request = INFER(model_name="fer-nano")
    for count in (1, 512):
        request.ClearField("inputs")
        tensor = request.inputs.add(name="faces", datatype="UINT8", shape=[count, 48, 48, 1])
        tensor.contents.uint_contents.extend([255] * (count * 2304))
        message = request.SerializeToString()
        assert deserializer(INFER)(message) == request
    fields, numbers = count_parts(message, INFER.DESCRIPTOR)
    assert (fields, numbers) == (7, 512 * 2304 + 4)
    pictures = emotion_pb2.AnalyzeImagesRequest(images=[b"\xff" * 1000] * 32)
    assert deserializer(emotion_pb2.AnalyzeImagesRequest)(pictures.SerializeToString()) == pictures


@pytest.mark.parametrize("cut", [1, 100, 20_000])
def test_what_is_cut_off_is_left_to_protobuf(cut: int) -> None:
    request = INFER(raw_input_contents=[b"\x01" * 30_000])
    found = deserializer(INFER)(request.SerializeToString()[:-cut])
    assert isinstance(found, UnreadableMessage)
    assert found.error().reason == "MESSAGE_UNREADABLE"


def _open_inference() -> Any:
    request = INFER()
    tensor = request.inputs.add(name="faces", datatype="UINT8", shape=[512, 48, 48, 1])
    tensor.contents.uint_contents.extend([7] * (512 * 2304))
    return request


def _predict() -> Any:
    request = PREDICT()
    tensor = request.inputs["faces"]
    tensor.dtype = tensorflow_tensors.DT_UINT8
    for side in (512, 48, 48, 1):
        tensor.tensor_shape.dim.add(size=side)
    tensor.int_val.extend([7] * (512 * 2304))
    return request


@pytest.mark.parametrize(
    ("make", "parse", "count"),
    [
        (_open_inference, open_inference_tensors.parse_faces, open_inference_tensors.listed_count),
        (_predict, tensorflow_tensors.parse_faces, tensorflow_tensors.listed_count),
    ],
)
async def test_many_listed_numbers_are_read_in_pieces_on_a_thread(
    make: Callable[[], Any], parse: Callable[..., Any], count: Callable[[Any], int]
) -> None:
    request = make()
    assert count(request) == 512 * 2304 > faces.MANY_NUMBERS
    pieces: list[int] = []

    class Watched(list):  # type: ignore[type-arg]  # of any numbers
        def __getitem__(self, at: Any) -> Any:
            pieces.append(at.stop - at.start)
            return super().__getitem__(at)

    crops = await asyncio.to_thread(parse, request, InputSpec("faces", 48, 48), LIMITS)
    assert crops.shape == (512, 48, 48, 1)
    assert int(crops.max()) == 7
    found = faces.listed_numbers(Watched(range(100_000)), np.uint32)
    assert max(pieces) <= 16 * 1024
    assert found.tolist() == list(range(100_000))


def test_too_many_parts_are_an_error_of_the_caller_with_the_limit() -> None:
    found = deserializer(INFER)(ATTACKS["empty inputs"][1])
    error = found.error()
    assert isinstance(error, InvalidRequestError)
    assert "40000" in error.message
