"""Splits the bytes of a stream into gRPC messages, each after a prefix of five bytes with its length. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from ferserve_server.domain.errors import FerserveError
from ferserve_server.grpc.compression import check_encoding
from ferserve_server.grpc.errors import MessageError

if TYPE_CHECKING:
    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.services.limits import RequestLimits

PREFIX_BYTES: Final = 5

_PREFIX: Final = struct.Struct(">BL")


class Message(NamedTuple):
    """Holds a message as received, without its prefix."""

    data: bytes
    compressed: bool


class MessageReader:
    """Splits the bytes of one stream into messages.

    Args of the constructor:
        limits: Bounds of a message. A longer one is rejected by its prefix.
        encoding: Compression of the messages that are flagged as compressed.

    Attributes:
        missing: Bytes to come of the message that has begun; 0 if none has, or too little of it is there to know.
        error: Reason for which nothing more is read, or None.
    """

    __slots__ = ("_encoding", "_have", "_limits", "_parts", "error", "missing")

    def __init__(self, limits: RequestLimits, encoding: str = "identity") -> None:
        self._limits = limits
        self._encoding = encoding
        self._parts: list[bytes] = []
        self._have = 0
        self.missing = 0
        self.error: ReceiveError | None = None

    @property
    def partial(self) -> bool:
        """Returns whether a message has started that is not complete."""
        return self._have > 0

    def feed(self, data: bytes) -> list[Message]:
        """Adds bytes, and returns the messages that they complete."""
        if self.error is not None:
            return []
        if self._have:
            self._parts.append(data)
            self._have += len(data)
            if self.missing > len(data):
                self.missing -= len(data)
                return []
            data = b"".join(self._parts)
            self._parts = []
        messages: list[Message] = []
        at, end = 0, len(data)
        self.missing = 0
        while end - at >= PREFIX_BYTES:
            flag, length = _PREFIX.unpack_from(data, at)
            stop = at + PREFIX_BYTES + length
            try:
                if flag:
                    check_encoding(self._encoding)
                self._limits.check_message(length)
            except (FerserveError, MessageError) as error:
                self.error, self._have = error.with_traceback(None), 0
                return messages
            if stop > end:
                self.missing = stop - end
                break
            messages.append(Message(data[at + PREFIX_BYTES : stop], bool(flag)))
            at = stop
        self._have = end - at
        if at < end:
            self._parts = [data[at:]]
        return messages


def whole_message(data: bytes, max_bytes: int) -> bytes | None:
    """Returns the only message of a call if these bytes hold all of it; None if a reader must decide.

    Args:
        data: A frame.
        max_bytes: Bound on a message; of a longer one the reader says what is wrong.
    """
    byte_count = len(data) - PREFIX_BYTES
    if 0 <= byte_count <= max_bytes and data[0] == 0 and int.from_bytes(data[1:5]) == byte_count:
        return data[PREFIX_BYTES:]
    return None


def framed(message: bytes) -> bytes:
    """Prepends the prefix to a message that is not compressed."""
    return _PREFIX.pack(0, len(message)) + message
