"""Header blocks of answers: bytes that hold on every connection, since none of them touches HPACK's table. Pure.

All are literals without indexing (RFC 7541, 6.2.2), or lines of the static table. So there is no state to keep,
and the blocks of a call that succeeds are the same bytes for all.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Final

from ferserve_server.services.status import code_number, trailers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.errors import FerserveError

CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 1, 4, 5, 8, 12, 13
"""Codes of gRPC (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md)."""

FORGET_TABLE: Final = b"\x20"
"""Begins the next block after a peer made its table smaller: the table has no room from now on (RFC 7541, 4.2)."""

_STATUS_200: Final = b"\x88"
_CONTENT_TYPE: Final = b"\x0f\x10"  # line 31 of the static table, in a prefix of four bits
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


_MOST_ERROR_BLOCKS: Final = 256
"""Under overload nearly all calls are refused in a few ways: they tell the milliseconds until there is room."""

_LONGEST_ERROR_BLOCK: Final = 2048
"""What callers wrote, which some errors quote, is not kept at length. A refusal has 300 to 500 bytes."""

_error_blocks: dict[tuple[object, ...], bytes] = {}


def literal(name: bytes, value: bytes) -> bytes:
    """A header as a literal that nobody keeps."""
    return _name(name) + _string(value)


@cache
def _name(name: bytes) -> bytes:
    """The beginning of a literal; there are few names, all of them ours."""
    return b"\x00" + _string(name)


def _string(text: bytes) -> bytes:
    """A string literal without Huffman's code (RFC 7541, 5.2)."""
    length = len(text)
    return (bytes((length,)) if length < 0x7F else _integer(length)) + text


def _integer(value: int) -> bytes:
    """An integer in a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        return bytes([value])
    value -= 0x7F
    rest = [0x7F]
    while value >= 0x80:
        rest.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*rest, value])


BEGIN_BLOCK: Final = _STATUS_200 + _CONTENT_TYPE + _string(b"application/grpc")
"""What every answer begins with."""

_STATUS: Final = tuple(literal(b"grpc-status", b"%d" % code) for code in range(17))
"""By code."""

OK_BLOCK: Final = _STATUS[0]
"""What an answer ends with that succeeded."""


def status_block(code: int, message: str = "", more: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """The trailers of a status.

    Args:
        code: Code of gRPC, 0 to 16.
        message: For people.
        more: Further trailers; the values of those whose names end in -bin are bytes.
    """
    parts = [_STATUS[code]]
    if message:
        parts.append(literal(b"grpc-message", percent_encoded(message)))
    for name, value in more:
        if isinstance(value, bytes):
            # Unpadded, as gRPC asks of those who send.
            parts.append(literal(name.encode(), base64.b64encode(value).rstrip(b"=")))
        else:
            parts.append(literal(name.encode(), value.encode()))
    return b"".join(parts)


def error_block(error: FerserveError) -> bytes:
    """The trailers of an error, with its details. Event loop only: blocks are kept, and looked up."""
    # Everything that trailers are made of; they tell milliseconds and no less.
    retry_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
    key = (type(error), error.reason, error.message, error.field, retry_ms, *error.metadata.items())
    block = _error_blocks.get(key)
    if block is None:
        block = status_block(code_number(error), error.message, trailers_of(error))
        if len(_error_blocks) >= _MOST_ERROR_BLOCKS:
            _error_blocks.clear()
        if len(block) <= _LONGEST_ERROR_BLOCK:
            _error_blocks[key] = block
    return block


def http_block(status: int) -> bytes:
    """The headers of an answer that has no more than an HTTP status, 400 to 599."""
    return b"\x08" + _string(b"%d" % status)  # line 8 of the static table is :status


def percent_encoded(message: str) -> bytes:
    """A grpc-message: printable ASCII as it is, all other bytes of its UTF-8 as %XX."""
    if message.isascii() and message.isprintable() and "%" not in message:
        # As nearly all are; byte by byte was a seventh of what a refused call cost.
        return message.encode()
    return b"".join(
        bytes([byte]) if byte in _PRINTABLE else b"%%%02X" % byte for byte in message.encode("utf-8", "replace")
    )
