"""Messages that callers compressed. Pure."""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.trailers import INTERNAL, UNIMPLEMENTED

if TYPE_CHECKING:
    from ferserve_server.services.limits import RequestLimits

_WINDOW_BITS: Final = MappingProxyType({"gzip": 31, "deflate": 15})
"""What zlib calls the formats; gRPC's deflate is that of zlib (RFC 1950)."""

ACCEPTED: Final = "identity,deflate,gzip"


class Inflated(bytes):
    """A message that was compressed.

    Attributes:
        wire_bytes: How long it was.
    """

    wire_bytes: int


def wire_bytes(message: bytes) -> int:
    """How long a message was as it came."""
    return message.wire_bytes if type(message) is Inflated else len(message)


def check_encoding(encoding: str) -> None:
    """Refuses compressed messages that cannot be read.

    Args:
        encoding: As the call's headers name it.

    Raises:
        MessageFault: There is no such encoding here, or the headers name none.
    """
    if encoding in _WINDOW_BITS:
        return
    if encoding == "identity":
        raise MessageFault(INTERNAL, "A message is compressed, and the call names no grpc-encoding.")
    text = f"Messages in grpc-encoding {encoding[:20]!r} are not read. Use gzip, deflate, or no compression."
    raise MessageFault(UNIMPLEMENTED, text, [("grpc-accept-encoding", ACCEPTED)])


def inflate(data: bytes, encoding: str, limits: RequestLimits) -> Inflated:
    """Makes a message what it was.

    Args:
        data: Compressed.
        encoding: 'gzip' or 'deflate'.
        limits: Bounds of a message; no more than that is made of it.

    Raises:
        LimitExceededError: It is longer.
        MessageFault: It is not of that format.
    """
    machine = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        inflated = machine.decompress(data, limits.max_message_bytes + 1)
    except zlib.error as error:
        raise MessageFault(INTERNAL, f"A message is no {encoding}: {error}.") from error
    limits.check_message(len(inflated))
    if not machine.eof or machine.unused_data:
        raise MessageFault(INTERNAL, f"A message is no whole {encoding}.")
    message = Inflated(inflated)
    message.wire_bytes = len(data)
    return message
