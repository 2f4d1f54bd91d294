"""Parses request headers: the method, the deadline and the metadata of a call. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ferserve_server.http2.engine import Headers

_UNIT_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"[0-9]{1,8}[HMSmun]", re.ASCII)
"""Forms of grpc-timeout (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""

_RESERVED: Final = frozenset(
    {"te", "content-type", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"}
)
"""Headers of gRPC itself; all others are the caller's metadata."""

_OF_ONE_CALL: Final = (b"traceparent", b"tracestate")
"""Headers with another value in every call, which the cache leaves out."""

_MAX_REQUESTS: Final = 256
"""Maximum cached requests: a client has one for each method, deadline and set of metadata that it repeats."""

_MAX_REQUEST_BYTES: Final = 1024
"""Maximum size of a cached request."""

_requests: dict[Headers, RequestHead] = {}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Holds the parsed headers of a call.

    Attributes:
        path: /package.Service/Method.
        timeout_s: Time for which the caller waits, in seconds, or None.
        metadata: Names and values of the caller's own headers; binary values as they came, in base64.
        http_status: Status of a rejection that is HTTP's and not gRPC's, or 0.
        trace: Those of the metadata that are its trace context.
        error: Reason for which gRPC cannot take the call, or "".
        encoding: Compression of the messages that are flagged as compressed.
    """

    path: str
    timeout_s: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    trace: tuple[tuple[str, str], ...] = ()
    http_status: int = 0
    error: str = ""
    encoding: str = "identity"


def read_request(headers: Headers) -> RequestHead:
    """Parses the headers of a request, which the engine has validated. Event loop only: results are cached.

    A client repeats itself: to look headers up takes a quarter of what it takes to read them.
    """
    known = _requests.get(headers)
    if known is not None:
        return known
    own = tuple(header for header in headers if header[0] in _OF_ONE_CALL)
    if own:
        head = read_request(tuple(header for header in headers if header[0] not in _OF_ONE_CALL))
        decoded = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in own)
        return replace(head, metadata=head.metadata + decoded, trace=decoded)
    head = _read(headers)
    if sum(len(name) + len(value) for name, value in headers) <= _MAX_REQUEST_BYTES:
        if len(_requests) >= _MAX_REQUESTS:
            _requests.clear()
        _requests[headers] = head
    return head


def _read(headers: Headers) -> RequestHead:
    own: dict[str, str] = {}
    metadata: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in _RESERVED or name.startswith(":"):
            own[name] = value
        else:
            metadata.append((name, value))
    http_status = 0
    if own[":method"] != "POST":
        http_status = 405
    elif not is_grpc(own.get("content-type", "")):
        http_status = 415
    timeout_s, error = None, ""
    if "grpc-timeout" in own:
        timeout_s = parse_timeout(own["grpc-timeout"])
        error = "" if timeout_s is not None else f"grpc-timeout {own['grpc-timeout'][:20]!r} cannot be read"
    encoding = own.get("grpc-encoding", "identity")
    return RequestHead(own.get(":path", ""), timeout_s, tuple(metadata), (), http_status, error, encoding)


def is_grpc(content_type: str) -> bool:
    """Returns whether it is application/grpc, with any encoding of messages."""
    return content_type == "application/grpc" or content_type.startswith(
        ("application/grpc+", "application/grpc;")
    )


def parse_timeout(text: str) -> float | None:
    """Parses a grpc-timeout into seconds, 0 or more; None if it cannot be read."""
    return int(text[:-1]) * _UNIT_S[text[-1]] if _TIMEOUT.fullmatch(text) else None
