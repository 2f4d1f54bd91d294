"""Decompresses messages: bounded in size and ratio, off the event loop if they are large."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.trailers import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED

if TYPE_CHECKING:
    from ferserve_server.services.limits import RequestLimits

_WINDOW_BITS: Final = MappingProxyType({"gzip": 31, "deflate": 15})
"""zlib's names of the formats; gRPC's deflate is zlib's (RFC 1950)."""

ACCEPTED: Final = "identity,deflate,gzip"

AT_ONCE_BYTES: Final = 256 * 1024
"""Maximum result that is inflated on the event loop: it takes about 0.5 ms."""

MAX_RATIO: Final = 100
"""Maximum ratio of larger results. Pictures and tensors have 1 to 10; 31 KB that become 31 MiB have 1,000."""

_RATIO_FREE_BYTES: Final = 1024 * 1024
"""Maximum result of any ratio, which takes about 2 ms on the thread: test clients send hundreds of KB of zeros."""

_executor: Final = ThreadPoolExecutor(1, "inflate")
"""Thread for one message at a time, so that no more than one result is being made."""


def check_encoding(encoding: str) -> None:
    """Rejects compressed messages that cannot be read.

    Args:
        encoding: As named in the headers of the call.

    Raises:
        MessageError: The encoding is unknown, or the headers name none.
    """
    if encoding in _WINDOW_BITS:
        return
    if encoding == "identity":
        raise MessageError(INTERNAL, "A message is compressed, and the call names no grpc-encoding.")
    text = f"Messages in grpc-encoding {encoding[:20]!r} are not read. Use gzip, deflate, or no compression."
    raise MessageError(UNIMPLEMENTED, text, [("grpc-accept-encoding", ACCEPTED)])


def inflate(data: bytes, encoding: str, limits: RequestLimits) -> bytes | None:
    """Inflates a message if its result is small; returns None if `inflate_large` must do it.

    Args:
        data: Compressed.
        encoding: 'gzip' or 'deflate'.
        limits: Bounds of a message.

    Raises:
        LimitExceededError: The result is longer than a message may be.
        MessageError: The data is not of that format.
    """
    machine, inflated = _inflate(data, encoding, min(AT_ONCE_BYTES, limits.max_message_bytes + 1))
    limits.check_message(len(inflated))
    if not machine.eof and len(inflated) >= AT_ONCE_BYTES:
        return None
    return _checked(machine, inflated, encoding)


def max_inflated_bytes(compressed_bytes: int, limits: RequestLimits) -> int:
    """Returns the bound on the result of `inflate_large`."""
    return min(limits.max_message_bytes, max(MAX_RATIO * compressed_bytes, _RATIO_FREE_BYTES))


async def inflate_large(data: bytes, encoding: str, limits: RequestLimits) -> bytes:
    """Inflates a message of any size on a thread.

    Raises:
        LimitExceededError: As above.
        MessageError: As above, or the ratio is above `MAX_RATIO`.
    """
    max_bytes = max_inflated_bytes(len(data), limits) + 1
    loop = asyncio.get_running_loop()
    machine, inflated = await loop.run_in_executor(_executor, _inflate, data, encoding, max_bytes)
    limits.check_message(len(inflated))
    if not machine.eof and len(inflated) >= max_bytes:
        text = f"A message inflates to more than {MAX_RATIO} times its size. Send it without compression."
        raise MessageError(RESOURCE_EXHAUSTED, text)
    return _checked(machine, inflated, encoding)


def _inflate(data: bytes, encoding: str, max_bytes: int) -> tuple[zlib._Decompress, bytes]:
    machine = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        return machine, machine.decompress(data, max_bytes)
    except zlib.error as error:
        raise MessageError(INTERNAL, f"A message is no {encoding}: {error}.") from None


def _checked(machine: zlib._Decompress, inflated: bytes, encoding: str) -> bytes:
    if not machine.eof or machine.unused_data:
        raise MessageError(INTERNAL, f"A message is no whole {encoding}.")
    return inflated
