"""Decodes the errors of another ferserve server.

`services.status` does the opposite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from ferserve_server.domain import errors
from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.services.status import ERROR_DOMAIN, RETRY_SAFE
from ferserve_server.workers.json_codec import KINDS, read_error

if TYPE_CHECKING:
    from ferserve.v1 import failure_pb2

_BY_REASON: Final = {kind.reason: kind for kind in KINDS.values() if kind.reason != FerserveError.reason}
"""Errors that always have the same reason."""

_BY_CODE: Final[dict[grpc.StatusCode, type[FerserveError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.VersionNotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ModelRejectedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QueueFullError,
    grpc.StatusCode.UNAVAILABLE: UpstreamUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExpiredError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedError,
}
"""Errors with varying reasons, or of a newer server: one with the same code."""


def read_rejection(error: grpc.aio.AioRpcError) -> FerserveError:
    """Decodes the error of a failed call.

    A status that no ferserve server wrote is gRPC's: then only the code counts, as its text is not for clients.
    """
    code = error.code()
    status = _status(error.trailing_metadata())
    details = {detail.DESCRIPTOR.name: detail for detail in _details(status)}
    info: Any = details.get("ErrorInfo")
    if info is None or info.domain != ERROR_DOMAIN:
        return _error_of_code(code)
    retry: Any = details.get("RetryInfo")
    bad: Any = details.get("BadRequest")
    return _build_error(
        code,
        info.reason,
        status.message,
        dict(info.metadata),
        field=bad.field_violations[0].field if bad is not None and bad.field_violations else "",
        retry_after_s=None if retry is None else retry.retry_delay.ToMilliseconds() / 1e3,
    )


def read_failure(failure: failure_pb2.Failure) -> FerserveError:
    """Decodes the error of one part of an answer."""
    code = next((code for code in grpc.StatusCode if code.value[0] == failure.code), grpc.StatusCode.UNKNOWN)
    return _build_error(code, failure.reason, failure.message, dict(failure.metadata))


def _build_error(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    metadata: dict[str, str],
    *,
    field: str = "",
    retry_after_s: float | None = None,
) -> FerserveError:
    if reason == errors.DrainingError.reason:  # this server is not, contrary to what its clients would conclude
        return UpstreamUnavailableError("the server that was asked is going down")
    retry_safe = {"true": True, "false": False}.get(metadata.pop(RETRY_SAFE, ""))
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, FerserveError)
    form: dict[str, object] = {"kind": kind.__name__, "message": message, "metadata": metadata, "field": field}
    form |= {"retry_after_s": retry_after_s, "retry_safe": retry_safe}
    return read_error(form | ({"reason": reason} if reason else {}))


def _error_of_code(code: grpc.StatusCode) -> FerserveError:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExpiredError()
    if code is grpc.StatusCode.UNAVAILABLE:
        return UpstreamUnavailableError()
    if code is grpc.StatusCode.CANCELLED:  # not by this side, which would not read an answer then
        return UpstreamUnavailableError("the server that was asked cut the call off", retry_safe=False)
    return FerserveError(f"The model tier failed on this call ({code.name}). The log of this server tells more.")


def _status(trailers: Any) -> status_pb2.Status:  # noqa: ANN401 - gRPC's own kind of sequence
    for name, value in trailers or ():
        if name == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _details(status: status_pb2.Status) -> list[Any]:
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.BadRequest)
    found = []
    for packed in status.details:
        for kind in kinds:
            if packed.Is(kind.DESCRIPTOR):
                detail = kind()
                packed.Unpack(detail)
                found.append(detail)
    return found
