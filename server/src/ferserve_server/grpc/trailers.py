"""Builds the headers and trailers of responses. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.trace import sampled_spans
from ferserve_server.http2.engine import Headers, NeverIndexedHeader
from ferserve_server.services.status import code_number, trailers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.errors import FerserveError

CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 1, 4, 5, 8, 12, 13
"""gRPC status codes (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md)."""

RESPONSE_HEADERS: Final[Headers] = ((b":status", b"200"), (b"content-type", b"application/grpc"))

_STATUS: Final = tuple((b"grpc-status", b"%d" % code) for code in range(17))
"""Header values of the status, by code."""

OK: Final[Headers] = (_STATUS[0],)
"""Trailers of a call that succeeded."""

_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}

_MAX_ERRORS: Final = 256
"""Maximum cached errors. Under overload nearly all calls are rejected in a few ways: they tell the milliseconds
until there is room."""

_MAX_ERROR_BYTES: Final = 2048
"""Maximum size of a cached error: some quote what callers wrote. A rejection has 300 to 500 bytes."""

_errors: dict[tuple[object, ...], Headers] = {}


def status_trailers(code: int, message: str = "", more: Iterable[tuple[str, str | bytes]] = ()) -> Headers:
    """Writes the trailers of a status.

    Args:
        code: gRPC status code, 0 to 16.
        message: For people.
        more: Further trailers; values of names that end in -bin are bytes.
    """
    # Texts and details differ from call to call: they must not push the others out of HPACK's table.
    trailers = [_STATUS[code]]
    if message:
        trailers.append(NeverIndexedHeader(b"grpc-message", percent_encoded(message)))
    trailers += [NeverIndexedHeader(*pair) for pair in metadata_headers(more)]
    return tuple(trailers)


def metadata_headers(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    """Writes metadata as headers; binary values in base64 without padding, as gRPC asks of senders."""
    return tuple(
        (name.encode(), base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode())
        for name, value in metadata
    )


def error_trailers(error: FerserveError) -> Headers:
    """Writes the trailers of an error with its details. Event loop only: cached, but for sampled calls."""
    if sampled_spans.get():  # the details name the trace
        return status_trailers(code_number(error), error.message, trailers_of(error))
    # Everything that trailers are made of; they tell milliseconds and no less.
    retry_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
    key = (type(error), error.reason, error.message, error.field, retry_ms, *error.metadata.items())
    trailers = _errors.get(key)
    if trailers is None:
        trailers = status_trailers(code_number(error), error.message, trailers_of(error))
        if len(_errors) >= _MAX_ERRORS:
            _errors.clear()
        if sum(len(name) + len(value) for name, value in trailers) <= _MAX_ERROR_BYTES:
            _errors[key] = trailers
    return trailers


def http_status(status: int) -> Headers:
    """Writes the headers of a response with only an HTTP status, 400 to 599."""
    return ((b":status", b"%d" % status),)


def percent_encoded(message: str) -> bytes:
    """Encodes a grpc-message: printable ASCII as it is, all other bytes of its UTF-8 as %XX."""
    if message.isascii() and message.isprintable() and "%" not in message:
        return message.encode()  # as nearly all are; byte by byte was a seventh of the cost of a rejected call
    return b"".join(
        bytes([byte]) if byte in _PRINTABLE else b"%%%02X" % byte for byte in message.encode("utf-8", "replace")
    )
