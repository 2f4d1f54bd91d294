"""Messages of gRPC, cut out of the bytes of a stream (five bytes before each tell its length). Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import FerserveError
from ferserve_server.transport.express.compression import check_encoding, inflate
from ferserve_server.transport.express.faults import MessageFault

if TYPE_CHECKING:
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.faults import Fault

PREFIX_BYTES: Final = 5

_PREFIX: Final = struct.Struct(">BL")


class MessageReader:
    """Cuts the bytes of one stream into messages, however they come.

    Args of the constructor:
        limits: Bounds of a message. A longer one is refused by what it says of its length.
        encoding: What messages that say so are compressed with.
    """

    __slots__ = ("_encoding", "_have", "_limits", "_parts", "fault", "missing")

    def __init__(self, limits: RequestLimits, encoding: str = "identity") -> None:
        self._limits = limits
        self._encoding = encoding
        self._parts: list[bytes] = []
        self._have = 0
        self.missing = 0
        """Bytes that the message which has begun lacks; 0 if none has, or too little of it is there to know."""
        self.fault: Fault | None = None
        """Why nothing more is read: the message that begins is too long, or cannot be decompressed."""

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete."""
        return self._have > 0

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes in, and returns the messages that are complete with them, without their prefixes."""
        if self.fault is not None:
            return []
        if self._have:
            self._parts.append(data)
            self._have += len(data)
            if self.missing > len(data):
                self.missing -= len(data)
                return []
            parts, self._parts = self._parts, []
            if self.missing == len(data) and not parts[0][0]:
                # The end of a message, whose first part was looked at: it is put together without its prefix.
                self.missing = self._have = 0
                parts[0] = parts[0][PREFIX_BYTES:]
                return [b"".join(parts)]
            data = b"".join(parts)
        messages: list[bytes] = []
        at, end = 0, len(data)
        self.missing = 0
        while end - at >= PREFIX_BYTES:
            flag, length = _PREFIX.unpack_from(data, at)
            stop = at + PREFIX_BYTES + length
            try:
                self._check(flag, length)
                if stop > end:
                    self.missing = stop - end
                    break
                message = data[at + PREFIX_BYTES : stop]
                messages.append(inflate(message, self._encoding, self._limits) if flag else message)
            except (FerserveError, MessageFault) as fault:
                self.fault, self._have = fault, 0
                return messages
            at = stop
        self._have = end - at
        if at < end:
            self._parts = [data[at:]]
        return messages

    def _check(self, flag: int, length: int) -> None:
        if flag:
            check_encoding(self._encoding)
        self._limits.check_message(length)


def whole_message(data: bytes, most_bytes: int) -> bytes | None:
    """The message of a call that is in these bytes as a whole and alone; None if it takes more to read them.

    Args:
        data: What came.
        most_bytes: Bound on a message; of a longer one the reader says what is wrong.
    """
    byte_count = len(data) - PREFIX_BYTES
    if 0 <= byte_count <= most_bytes and data[0] == 0 and int.from_bytes(data[1:5]) == byte_count:
        return data[PREFIX_BYTES:]
    return None


def write_prefix(byte_count: int) -> bytes:
    """What stands before a message of so many bytes."""
    return _PREFIX.pack(0, byte_count)
