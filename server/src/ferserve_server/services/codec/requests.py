"""Parses face crop requests from their bytes.

A caller sends the same message repeatedly with different pixels in it. Once protobuf has parsed such a message,
the result is known for every message of the same length with the same bytes before and after the pixels: a parser
would reach the same result. Such messages are recognised by these few bytes, and their pixels are used in place.
Protobuf parses all others, which costs two copies of the pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.classify_stream import CropMessage
from ferserve_server.services.codec import messages
from ferserve_server.services.message_parts import check_parts
from ferserve_server.services.reading import unreadable_error

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Priority
    from ferserve_server.services.limits import RequestLimits

_DEFAULT_MODEL: Final = ModelSpec()

_MAX_FORMS: Final = 64
"""Maximum number of cached forms; beyond it the oldest is evicted. A caller has one for each number of faces."""

_MAX_FORMS_PER_LENGTH: Final = 4
"""Maximum number of forms that a message is compared with."""

_MAX_FORM_BYTES: Final = 256
"""Maximum bytes around the pixels; the longest usual ones hold a model's name of 128 characters."""

_VARINT, _LENGTH_DELIMITED = 0, 2
"""Wire types (https://protobuf.dev/programming-guides/encoding/#structure)."""

_SEQUENCE_ID_TAG: Final = bytes([emotion_pb2.ClassifyStreamRequest.SEQUENCE_ID_FIELD_NUMBER << 3 | _VARINT])

Parsed = TypeVar("Parsed", emotion_pb2.ClassifyFacesRequest, emotion_pb2.ClassifyStreamRequest)


class CropRequest(NamedTuple):
    """Holds a parsed request with packed crops: `crops` is uint8 [N, H, W, 1], read-only."""

    crops: CropBatch
    spec: ModelSpec
    priority: Priority


class PictureRequest(NamedTuple):
    """Holds a parsed request with crops as encoded pictures."""

    images: list[bytes]
    spec: ModelSpec
    priority: Priority


class _Form(NamedTuple):
    """Holds all bytes of a message but its pixels, and their parsed content."""

    head: bytes
    tail: bytes
    shape: tuple[int, ...]
    spec: ModelSpec
    priority: Priority


class _KnownForms:
    """Caches the forms of earlier messages. Event loop only."""

    def __init__(self, faces_field: int, *, above: int = 0) -> None:
        """Creates an empty cache.

        Args:
            faces_field: Number of the field that holds a PackedFaces.
            above: Number of the last field that is read apart, before `start`; forms are without it.
        """
        self._faces_field = faces_field
        self._above = above
        self._by_length: dict[int, list[_Form]] = {}
        self._count = 0

    def read(self, message: bytes, start: int) -> CropRequest | None:
        """Parses a message, from `start` on, if it has a known form."""
        for form in self._by_length.get(len(message) - start, ()):
            if message.startswith(form.head, start) and message.endswith(form.tail):
                crops: CropBatch = np.ndarray(form.shape, np.uint8, message, start + len(form.head))
                return CropRequest(crops, form.spec, form.priority)
        return None

    def learn(self, message: bytes, start: int, request: CropRequest) -> None:
        """Caches the form of a parsed message, if it is a usual one."""
        pixels = find_pixels(message, start, self._faces_field, above=self._above)
        if pixels is None:
            return
        head, tail = message[start : pixels[0]], message[pixels[1] :]
        if len(head) + len(tail) > _MAX_FORM_BYTES:
            return
        length = len(message) - start
        # One at a time, so that a caller with many forms does not evict those of all others.
        if len(self._by_length.get(length, ())) >= _MAX_FORMS_PER_LENGTH:
            self._evict(length)
        elif self._count >= _MAX_FORMS:
            self._evict(next(iter(self._by_length)))
        form = _Form(head, tail, request.crops.shape, request.spec, request.priority)
        self._by_length.setdefault(length, []).append(form)
        self._count += 1

    def _evict(self, length: int) -> None:
        forms = self._by_length[length]
        del forms[0]
        if not forms:
            del self._by_length[length]
        self._count -= 1


class CropRequests:
    """Reads ClassifyFacesRequest and ClassifyStreamRequest. Event loop only."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._calls = _KnownForms(emotion_pb2.ClassifyFacesRequest.PACKED_FIELD_NUMBER)
        self._stream_messages = _KnownForms(
            emotion_pb2.ClassifyStreamRequest.FACES_FIELD_NUMBER,
            above=emotion_pb2.ClassifyStreamRequest.SEQUENCE_ID_FIELD_NUMBER,
        )

    def read_call(self, message: bytes) -> CropRequest | PictureRequest:
        """Reads a ClassifyFacesRequest.

        Raises:
            InvalidRequestError: MESSAGE_UNREADABLE, or what `wire` says of its fields.
        """
        known = self._calls.read(message, 0)
        if known is not None:
            return known
        request = self._parse_call(message)
        if isinstance(request, CropRequest):
            self._calls.learn(message, 0, request)
        return request

    def read_stream_message(self, message: bytes) -> CropMessage:
        """Reads a ClassifyStreamRequest; an invalid one is answered with its error, in its place.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE.
            InvalidRequestError: MESSAGE_UNREADABLE; not even its place is known.
        """
        self._limits.check_message(len(message))
        sequence_id, start = leading_sequence_id(message)
        request = self._stream_messages.read(message, start)
        if request is not None:
            return CropMessage(sequence_id, *request)
        parsed = _parsed(emotion_pb2.ClassifyStreamRequest, message)
        try:
            crops = messages.parse_packed(parsed.faces, self._limits, "faces")
            request = CropRequest(crops, _spec_of(parsed), messages.parse_priority(parsed.priority))
        except FerserveError as error:
            return CropMessage.rejected(parsed.sequence_id, error)
        self._stream_messages.learn(message, start, request)
        return CropMessage(parsed.sequence_id, *request)

    def _parse_call(self, message: bytes) -> CropRequest | PictureRequest:
        parsed = _parsed(emotion_pb2.ClassifyFacesRequest, message)
        spec, priority = _spec_of(parsed), messages.parse_priority(parsed.priority)
        if parsed.WhichOneof("faces") == "encoded":
            images = list(parsed.encoded.images)
            self._limits.check_face_count(len(images), "encoded.images")
            return PictureRequest(images, spec, priority)
        return CropRequest(messages.parse_packed(parsed.packed, self._limits, "packed"), spec, priority)


def find_pixels(message: bytes, start: int, faces_field: int, *, above: int = 0) -> tuple[int, int] | None:
    """Finds the pixels of a message.

    Args:
        message: What protobuf has read without an error.
        start: Where the fields begin that are searched.
        faces_field: Number of the field that holds a PackedFaces.
        above: Their numbers must be above this one.

    Returns:
        Their first byte and the one behind the last; None if the fields, of the message or of PackedFaces, do not
        stand in rising order, each once, as all libraries write them, or if there are no pixels.
    """
    faces = _find(message, start, len(message), faces_field, above=above)
    return faces and _find(message, *faces, face_pb2.PackedFaces.PIXELS_FIELD_NUMBER)


def leading_sequence_id(message: bytes) -> tuple[int, int]:
    """Returns a ClassifyStreamRequest's leading number and the offset of the rest; 0 and 0 without one."""
    if message[:1] != _SEQUENCE_ID_TAG:
        return 0, 0
    try:
        sequence_id, start = _varint(message, 1)
    except IndexError:
        return 0, 0
    # Ten bytes and more are of numbers below 0, or of none at all: protobuf knows.
    return (sequence_id, start) if start <= 10 else (0, 0)


def _find(message: bytes, at: int, end: int, wanted: int, *, above: int = 0) -> tuple[int, int] | None:
    found = None
    while at < end:
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if number <= above or wire_type not in {_VARINT, _LENGTH_DELIMITED}:
            return None
        value, begin = _varint(message, at)
        at = begin if wire_type == _VARINT else begin + value
        if number == wanted and wire_type == _LENGTH_DELIMITED:
            found = begin, at
        above = number
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := message[at]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _parsed(kind: type[Parsed], message: bytes) -> Parsed:
    check_parts(message, kind.DESCRIPTOR)
    try:
        return kind.FromString(message)
    except DecodeError:
        raise unreadable_error(kind.DESCRIPTOR.full_name) from None


def _spec_of(parsed: emotion_pb2.ClassifyFacesRequest | emotion_pb2.ClassifyStreamRequest) -> ModelSpec:
    return messages.parse_spec(parsed.model) if parsed.HasField("model") else _DEFAULT_MODEL
