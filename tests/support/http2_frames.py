"""Reads and writes HTTP/2 frames by hand (RFC 9113, sections 4 and 6), for loads and tests. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""First bytes of a client (3.4)."""

HEAD_BYTES: Final = 9

MAX_FRAME_BYTES: Final = 16_384
"""Maximum payload that peers may send by default (4.2)."""

MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1


class Kind:
    """Names frame types (6). No enumeration: looking up a member costs as much as splitting a frame off."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


_MAX_PARTS: Final = 64
"""Parts of a frame that are kept: bytes that come one by one must not take 40 each."""

TOO_LONG: Final = -1
"""Kind of a frame whose payload is too long; nothing after it can be read."""

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20


class ErrorCode(IntEnum):
    """Names error codes (7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class Setting(IntEnum):
    """Names settings (6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class ConnectionFault(Exception):  # noqa: N818 - the RFC's errors are faults of the peer's
    """Reports that the peer broke the rules of the connection, which ends (5.4.1)."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Frame(NamedTuple):
    """Holds a frame as received; `kind` is one of `Kind`, another number, or `TOO_LONG`."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


_MAKE_FRAME: Final = partial(tuple.__new__, Frame)
"""Makes one without the function that named tuples have for it, in a third of the time."""

_HEAD: Final = struct.Struct(">HBBBL")
_SETTING: Final = struct.Struct(">HL")
_NUMBER: Final = struct.Struct(">L")


class FrameReader:
    """Splits bytes, in any portions, into frames.

    Args of the constructor:
        longest_data_bytes: Longest payload of DATA.
        longest_bytes: Longest payload of all others.
    """

    __slots__ = ("_lacks", "_longest_bytes", "_longest_data_bytes", "_parts", "_rest")

    def __init__(self, longest_data_bytes: int = MAX_FRAME_BYTES, longest_bytes: int = MAX_FRAME_BYTES) -> None:
        self._longest_data_bytes = longest_data_bytes
        self._longest_bytes = longest_bytes
        self._rest = b""
        """What is left over; if `_lacks` is above 0, the beginning of the frame that goes on with `_parts`."""
        self._parts: list[bytes] = []
        self._lacks = 0

    @property
    def partial(self) -> bool:
        """Returns whether a frame has started that is not complete."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Frame]:
        """Adds bytes, and returns the frames that they complete.

        A frame that came in parts is put together once, and nothing else with it.
        """
        if not self._rest:
            return self._cut(data, 0)
        lacks = self._lacks
        if not lacks:
            return self._cut(self._rest + data, 0)
        if lacks > len(data):
            self._parts.append(data)
            self._lacks -= len(data)
            if len(self._parts) > _MAX_PARTS:
                self._parts = [b"".join(self._parts)]
            return []
        begun, parts = memoryview(self._rest), self._parts
        self._parts = []
        _, _, kind, flags, stream_id = _HEAD.unpack_from(begun)
        payload = b"".join((begun[HEAD_BYTES:], *parts, memoryview(data)[:lacks]))
        frames = self._cut(data, lacks)
        frames.insert(0, _MAKE_FRAME((kind, flags, stream_id & MAX_STREAM_ID, payload)))
        return frames

    def _cut(self, data: bytes, at: int) -> list[Frame]:
        frames: list[Frame] = []
        unpack, make, add = _HEAD.unpack_from, _MAKE_FRAME, frames.append
        end = len(data)
        self._lacks = 0
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, stream_id = unpack(data, at)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES and length > (self._longest_bytes if kind else self._longest_data_bytes):
                add(Frame(TOO_LONG, flags, stream_id & MAX_STREAM_ID, b""))
                break
            start = at + HEAD_BYTES
            stop = start + length
            if stop > end:
                self._lacks = stop - end
                break
            add(make((kind, flags, stream_id & MAX_STREAM_ID, data[start:stop])))
            at = stop
        self._rest = data[at:]
        return frames


def without_padding(frame: Frame) -> bytes:
    """Returns the payload of a DATA or HEADERS frame without padding and priority (6.1, 6.2).

    Raises:
        ConnectionFault: There is more padding than payload, or no room for the priority.
    """
    payload = frame.payload
    if frame.flags & PADDED:
        if not payload or payload[0] >= len(payload):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        payload = payload[1 : len(payload) - payload[0]]
    if frame.kind == Kind.HEADERS and frame.flags & PRIORITY_FLAG:
        if len(payload) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without room for their priority")
        payload = payload[5:]
    return payload


def read_settings(frame: Frame) -> list[tuple[int, int]]:
    """Reads the settings of a SETTINGS frame that is no acknowledgement, in order, with unknown ones.

    Raises:
        ConnectionFault: A value is not allowed.
    """
    settings = list(_SETTING.iter_unpack(frame.payload))
    for name, value in settings:
        if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"no window has {value} bytes")
        if name == Setting.MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 2**24:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"no frame has {value} bytes")
        if name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
    return settings


def read_increment(frame: Frame) -> int:
    """Reads the bytes of a WINDOW_UPDATE, 0 to 2**31 - 1."""
    number: int = _NUMBER.unpack(frame.payload)[0]
    return number & MAX_WINDOW


def write_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Writes a frame; the payload must not exceed the peer's frame size."""
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def write_settings(settings: Mapping[Setting, int]) -> bytes:
    """Writes a SETTINGS frame."""
    return write_frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings.items()))


def write_window_update(stream_id: int, increment: int) -> bytes:
    """Writes a WINDOW_UPDATE of 1 to 2**31 - 1 bytes."""
    return write_frame(Kind.WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(increment))


def write_reset(stream_id: int, code: ErrorCode) -> bytes:
    """Writes a RST_STREAM."""
    return write_frame(Kind.RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def write_go_away(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Writes a GOAWAY; the text is for people who inspect the connection."""
    return write_frame(Kind.GOAWAY, 0, 0, _NUMBER.pack(last_stream_id) + _NUMBER.pack(code) + text.encode()[:200])


def write_headers(stream_id: int, block: bytes, flags: int, max_frame_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """Writes a header block: one HEADERS frame, and CONTINUATION frames if it exceeds the peer's frame size."""
    if len(block) <= max_frame_bytes:
        return write_frame(Kind.HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[at : at + max_frame_bytes] for at in range(0, len(block), max_frame_bytes)]
    frames = [write_frame(Kind.HEADERS, flags, stream_id, parts[0])]
    frames += [write_frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(write_frame(Kind.CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def write_prefix(byte_count: int) -> bytes:
    """Writes what stands before a gRPC message of so many bytes that is not compressed."""
    return struct.pack(">BL", 0, byte_count)


def message_bytes(message: bytes) -> bytes:
    """Writes a gRPC message as it goes over the wire."""
    return write_prefix(len(message)) + message


def literal(name: bytes, value: bytes) -> bytes:
    """Encodes a header as a literal that is not indexed."""
    return _name(name) + _string(value)


def _name(name: bytes) -> bytes:
    """Encodes the beginning of a literal; there are few names, all known in advance."""
    return b"\x00" + _string(name)


def _string(text: bytes) -> bytes:
    """Encodes a string literal without Huffman coding (RFC 7541, 5.2)."""
    length = len(text)
    return (bytes((length,)) if length < 0x7F else _integer(length)) + text


def _integer(value: int) -> bytes:
    """Encodes an integer in a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        return bytes([value])
    value -= 0x7F
    rest = [0x7F]
    while value >= 0x80:
        rest.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*rest, value])
