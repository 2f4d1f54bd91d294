"""Messages of gRPC, cut out of the bytes of a stream (five bytes before each tell its length). Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import FerserveError
from ferserve_server.transport.express.trailers import UNIMPLEMENTED, status_block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.transport.limits import RequestLimits

PREFIX_BYTES: Final = 5

_PREFIX: Final = struct.Struct(">BL")


class MessageFault(Exception):  # noqa: N818 - a fault of the peer's
    """The bytes of a stream are no messages that can be taken.

    Attributes:
        trailers: What the call ends with.
    """

    def __init__(self, code: int, text: str, more: Iterable[tuple[str, str]] = ()) -> None:
        """Notes what to say.

        Args:
            code: Code of gRPC.
            text: For people.
            more: Further trailers.
        """
        super().__init__(text)
        self.trailers = status_block(code, text, more)


Fault = MessageFault | FerserveError
"""Why the bytes of a stream are not taken."""


class MessageReader:
    """Cuts the bytes of one stream into messages, however they come.

    Args of the constructor:
        limits: Bounds of a message. A longer one is refused by what it says of its length.
    """

    __slots__ = ("_have", "_limits", "_parts", "fault", "missing")

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._parts: list[bytes] = []
        self._have = 0
        self.missing = 0
        """Bytes that the message which has begun lacks; 0 if none has, or too little of it is there to know."""
        self.fault: Fault | None = None
        """Why nothing more is read: the message that begins is compressed or too long."""

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
            data = b"".join(self._parts)
            self._parts = []
        messages: list[bytes] = []
        at, end = 0, len(data)
        self.missing = 0
        while end - at >= PREFIX_BYTES:
            flag, length = _PREFIX.unpack_from(data, at)
            self.fault = self._fault(flag, length)
            if self.fault is not None:
                self._have, self._parts = 0, []
                return messages
            stop = at + PREFIX_BYTES + length
            if stop > end:
                self.missing = stop - end
                break
            messages.append(data[at + PREFIX_BYTES : stop])
            at = stop
        self._have = end - at
        if at < end:
            self._parts = [data[at:]]
        return messages

    def _fault(self, flag: int, length: int) -> Fault | None:
        if flag:
            return MessageFault(
                UNIMPLEMENTED,
                "Compressed messages are not read at this address. Send them uncompressed.",
                [("grpc-accept-encoding", "identity")],
            )
        try:
            self._limits.check_message(length)
        except FerserveError as error:
            return error
        return None


def whole_message(data: bytes) -> bytes | None:
    """The message of a call that is in these bytes as a whole and alone; None if it takes more to read them."""
    if len(data) >= PREFIX_BYTES and data[0] == 0 and int.from_bytes(data[1:5]) == len(data) - PREFIX_BYTES:
        return data[PREFIX_BYTES:]
    return None


def write_prefix(byte_count: int) -> bytes:
    """What stands before a message of so many bytes."""
    return _PREFIX.pack(0, byte_count)
