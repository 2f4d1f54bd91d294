"""Builds HTTP responses (status, headers and body), and maps errors to HTTP statuses. Pure.

Errors are mapped by their gRPC code. The table is the only one of its kind.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.services.status import code_of, metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.errors import FerserveError


HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""HTTP status of each code, as stated in google/rpc/code.proto."""

REASON_STATUS: Final = {
    "PATH_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TOO_SLOW": 408,
    "MESSAGE_TOO_LARGE": 413,
    "JSON_TOO_LARGE": 413,
    "JSON_TOO_MANY_PARTS": 413,
    "COMPRESSION_RATIO_TOO_HIGH": 413,
    "CONTENT_TYPE_UNSUPPORTED": 415,
    "CONTENT_ENCODING_UNSUPPORTED": 415,
    "EXPECTATION_FAILED": 417,
    "UPGRADE_REQUIRED": 426,
    "METADATA_TOO_LARGE": 431,
}
"""Reasons with an HTTP status of their own, where gRPC has INVALID_ARGUMENT alone (RFC 9110, RFC 6585)."""


def http_status(error: FerserveError) -> int:
    """Returns the HTTP status of an error, 400 to 504."""
    return REASON_STATUS.get(error.reason) or HTTP_STATUS[code_of(error)]


def error_headers(error: FerserveError) -> dict[str, str]:
    """Chooses the headers of an error: Retry-After where waiting helps, in whole seconds (RFC 9110, 10.2.3).

    Accept-Encoding lists the accepted encodings where a content encoding is rejected (RFC 9110, 15.5.16).
    """
    if error.reason == "CONTENT_ENCODING_UNSUPPORTED":
        return {"Accept-Encoding": "gzip, deflate"}
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}


def format_error(error: FerserveError) -> dict[str, object]:
    """Returns an error as JSON. `error` is text for the Open Inference Protocol; programs read `reason`."""
    document: dict[str, object] = {
        "error": error.message,
        "reason": error.reason,
        "status": code_of(error).name,
        "metadata": metadata_of(error),
    }
    if error.field:
        document["field"] = error.field
    if error.retry_after_s is not None:
        document["retry_after_ms"] = round(error.retry_after_s * 1e3)
    return document


def no_such_path(path: str) -> InvalidRequestError:
    """Makes the error of an unknown path."""
    return InvalidRequestError(
        "PATH_NOT_FOUND",
        f"There is nothing at {path[:80]!r}. Use GET / (the page), POST /v1/analyze, GET /v1/models, "
        "GET /v1/stream, GET /healthz, GET /readyz or GET /v2.",
        field="",
    )


def method_not_allowed(method: str, allowed: str) -> InvalidRequestError:
    """Makes the error of a method that a path does not support."""
    return InvalidRequestError(
        "METHOD_NOT_ALLOWED", f"{method[:20]} is not answered here; use {allowed}.", field=""
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds an answer to a request."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Makes a JSON document, ended by a line feed so that a terminal shows it well."""
    return Reply(json.dumps(document, ensure_ascii=False).encode() + b"\n", status, headers=headers or {})


def error_reply(error: FerserveError, headers: Mapping[str, str] | None = None) -> Reply:
    """Makes the reply of an error, with its status and the facts that a program needs to act on it."""
    return json_reply(format_error(error), http_status(error), {**error_headers(error), **(headers or {})})
