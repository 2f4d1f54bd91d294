"""Tests that a request is parsed to the same result by protobuf and by its known form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.services.codec import messages
from ferserve_server.services.codec.requests import (
    CropRequest,
    CropRequests,
    PictureRequest,
    find_pixels,
    leading_sequence_id,
)
from ferserve_server.services.limits import RequestLimits

if TYPE_CHECKING:
    from ferserve_server.pipeline.classify_stream import CropMessage

LIMITS = RequestLimits(
    max_message_bytes=2**25,
    max_metadata_bytes=2**14,
    max_faces_per_request=3,
    max_images_per_request=8,
    max_detection_side_pixels=1920,
)
SPECS = st.builds(
    servable_pb2.ModelSpec, name=st.sampled_from(["", "fer-nano", "a"]), version=st.integers(0, 3)
) | st.builds(servable_pb2.ModelSpec, version_label=st.sampled_from(["stable", "canary", "1"]))
SIDES = st.sampled_from([2, 3, 3, -1])


@st.composite
def packed(draw: st.DrawFn) -> face_pb2.PackedFaces:
    """Faces of a few sizes, so that forms come again, and some that are rejected."""
    count, height, width = draw(st.integers(0, 4)), draw(SIDES), draw(SIDES)
    size = max(0, count * (height or 48) * (width or 48)) + draw(st.sampled_from([0, 0, 0, 1]))
    pixels = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(size)
    return face_pb2.PackedFaces(pixels=pixels, face_count=count, height=height, width=width)


CALLS = st.builds(
    emotion_pb2.ClassifyFacesRequest, model=st.none() | SPECS, priority=st.integers(0, 3), packed=packed()
) | st.builds(
    emotion_pb2.ClassifyFacesRequest, encoded=st.builds(face_pb2.EncodedFaces, images=st.lists(st.binary()))
)
STREAMED = st.builds(
    emotion_pb2.ClassifyStreamRequest,
    sequence_id=st.sampled_from([-1, 0, 1, 127, 128, 2**63 - 1]),
    model=st.none() | SPECS,
    priority=st.integers(0, 3),
    faces=packed(),
)


def said(request: CropRequest | PictureRequest | CropMessage) -> object:
    """A request as something that can be compared."""
    if isinstance(request, PictureRequest):
        return request
    if isinstance(request.crops, FerserveError):
        return request.sequence_id, request.crops.reason, request.crops.message
    number = getattr(request, "sequence_id", None)
    return number, request.crops.shape, request.crops.tobytes(), request.spec, request.priority


def outcome(read, message: bytes) -> object:
    try:
        return said(read(message))
    except InvalidRequestError as error:
        return error.reason, error.message


@given(st.lists(st.tuples(CALLS, st.booleans()), min_size=2, max_size=12))
def test_a_reader_that_knows_forms_says_what_one_says_that_knows_none(messages: list) -> None:
    knowing = CropRequests(LIMITS)
    for message, in_parts in messages:
        sent = message.SerializeToString()
        if in_parts:  # the same fields twice, which joined messages may have
            sent += emotion_pb2.ClassifyFacesRequest(priority=1).SerializeToString()
        for _ in range(2):
            assert outcome(knowing.read_call, sent) == outcome(CropRequests(LIMITS).read_call, sent)


@given(st.lists(STREAMED, min_size=2, max_size=12))
def test_so_does_one_of_streams(messages: list[emotion_pb2.ClassifyStreamRequest]) -> None:
    knowing = CropRequests(LIMITS)
    for message in messages:
        sent = message.SerializeToString()
        for _ in range(2):
            assert outcome(knowing.read_stream_message, sent) == outcome(
                CropRequests(LIMITS).read_stream_message, sent
            )


@given(CALLS, st.data())
def test_one_byte_that_differs_is_noticed(message: emotion_pb2.ClassifyFacesRequest, data: st.DataObject) -> None:
    knowing = CropRequests(LIMITS)
    sent = message.SerializeToString()
    outcome(knowing.read_call, sent)
    if sent:
        at, value = data.draw(st.integers(0, len(sent) - 1)), data.draw(st.integers(0, 255))
        other = sent[:at] + bytes([value]) + sent[at + 1 :]
        assert outcome(knowing.read_call, other) == outcome(CropRequests(LIMITS).read_call, other)


@given(st.binary(max_size=60), st.sampled_from([0, 1]))
def test_whatever_protobuf_can_read_is_searched_without_an_error(message: bytes, start: int) -> None:
    try:
        parsed = emotion_pb2.ClassifyFacesRequest.FromString(message[start:])
    except Exception:  # noqa: BLE001 - only what it can read is searched
        return
    pixels = find_pixels(message, start, emotion_pb2.ClassifyFacesRequest.PACKED_FIELD_NUMBER)
    if pixels is not None:
        assert message[slice(*pixels)] == parsed.packed.pixels


@given(st.integers(-(2**63), 2**63 - 1), packed())
def test_the_number_before_a_message_is_read_or_left_to_protobuf(number: int, faces: face_pb2.PackedFaces) -> None:
    message = emotion_pb2.ClassifyStreamRequest(sequence_id=number, faces=faces).SerializeToString()
    sequence_id, start = leading_sequence_id(message)
    if number > 0:
        rest = emotion_pb2.ClassifyStreamRequest(faces=faces).SerializeToString()
        assert (sequence_id, message[start:]) == (number, rest)
    else:
        assert (sequence_id, start) == (0, 0)


@pytest.mark.parametrize("message", [b"\x08", b"\x08\x80", b"\x08" + b"\x80" * 12 + b"\x01", b"\xff\xff"])
def test_bytes_that_are_no_message_are_rejected(message: bytes) -> None:
    requests = CropRequests(LIMITS)
    for read in (requests.read_call, requests.read_stream_message):
        with pytest.raises(InvalidRequestError) as caught:
            read(message)
        assert caught.value.reason == "MESSAGE_UNREADABLE"


def test_pixels_of_a_known_form_are_not_copied() -> None:
    requests = CropRequests(LIMITS)
    sent = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=bytes(2304), face_count=1))
    message = sent.SerializeToString()
    requests.read_call(message)
    request = requests.read_call(message)
    assert isinstance(request, CropRequest)
    assert request.crops.base is message
    assert not request.crops.flags.writeable


def test_forms_without_end_are_forgotten_and_still_read() -> None:
    requests = CropRequests(LIMITS)
    for number in range(300):
        spec = servable_pb2.ModelSpec(name=f"m{number:04}")
        faces = face_pb2.PackedFaces(pixels=bytes([number % 256]) * 4, face_count=1, height=2, width=2)
        message = emotion_pb2.ClassifyFacesRequest(model=spec, packed=faces).SerializeToString()
        for _ in range(2):
            request = requests.read_call(message)
            assert (request.spec.name, request.crops[0, 0, 0, 0]) == (f"m{number:04}", number % 256)
    known = requests._calls._by_length
    assert sum(map(len, known.values())) <= 64


def test_a_form_keeps_what_wire_says_of_it() -> None:
    requests = CropRequests(LIMITS)
    sent = emotion_pb2.ClassifyFacesRequest(
        model=servable_pb2.ModelSpec(name="net", version=2),
        priority=emotion_pb2.PRIORITY_BULK,
        packed=face_pb2.PackedFaces(pixels=bytes(18), face_count=2, height=3, width=3),
    ).SerializeToString()
    first, again = requests.read_call(sent), requests.read_call(sent)
    expected = messages.parse_spec(servable_pb2.ModelSpec(name="net", version=2))
    assert first.spec == again.spec == expected
    assert first.priority is again.priority is messages.parse_priority(emotion_pb2.PRIORITY_BULK)
