"""Maps each error to its gRPC status. This is the only table of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from ferserve_server.domain import control_errors, errors, upstream_errors
from ferserve_server.domain.trace import sampled_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

ERROR_DOMAIN: Final = "ferserve"

RETRY_SAFE: Final = "retry_safe"
"""Key of ErrorInfo's metadata: `true` if no model has run on the request, `false` if one may have failed on it."""

TRACE_ID: Final = "trace_id"
"""Key of ErrorInfo's metadata: the trace of a sampled call, 32 hexadecimal digits."""

_DO_NOT_RETRY: Final = "-1"
"""Pushback that ends the retries of gRPC's own policies (gRFC A6): negative numbers forbid a retry."""

_ERROR_INFO, _RETRY_INFO, _BAD_REQUEST = (
    f"type.googleapis.com/{kind.DESCRIPTOR.full_name}"
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, error_details_pb2.BadRequest)
)

_CODES: Final[dict[type[errors.FerserveError], grpc.StatusCode]] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitExceededError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ImageFormatError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ImageUnreadableError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.VersionNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AliasNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReadyError: grpc.StatusCode.UNAVAILABLE,
    errors.VersionNotReadyError: grpc.StatusCode.UNAVAILABLE,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    errors.EngineStalledError: grpc.StatusCode.UNAVAILABLE,
    errors.EngineLostError: grpc.StatusCode.UNAVAILABLE,
    upstream_errors.UpstreamUnavailableError: grpc.StatusCode.UNAVAILABLE,
    upstream_errors.VersionChangedError: grpc.StatusCode.UNAVAILABLE,
    # Not UNAVAILABLE: clients retry that by themselves, and would multiply an overload.
    errors.QueueFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineUnmeetableError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DeadlineExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.InferenceFailedError: grpc.StatusCode.INTERNAL,
    errors.ModelRejectedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionInUseError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AliasFixedError: grpc.StatusCode.FAILED_PRECONDITION,
    control_errors.NoCanaryError: grpc.StatusCode.FAILED_PRECONDITION,
    control_errors.StateNotSavedError: grpc.StatusCode.FAILED_PRECONDITION,
    control_errors.NoOlderVersionError: grpc.StatusCode.FAILED_PRECONDITION,
    control_errors.ControlDisabledError: grpc.StatusCode.PERMISSION_DENIED,
    control_errors.ControlForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    control_errors.ControlThrottledError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    control_errors.OriginNotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    control_errors.ControlUnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.FerserveError: grpc.StatusCode.INTERNAL,
}

_NUMBERS: Final[dict[type[errors.FerserveError], int]] = {kind: code.value[0] for kind, code in _CODES.items()}
"""Status codes as numbers, cached because enumerations build their values at every access."""


def code_of(error: errors.FerserveError) -> grpc.StatusCode:
    """Returns the status code of an error."""
    return _CODES[type(error)]


def status_of(error: errors.FerserveError) -> status_pb2.Status:
    """Returns the full status of an error: code, message, ErrorInfo, and RetryInfo or BadRequest if they apply."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata_of(error))
    details = [_packed(_ERROR_INFO, info)]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(_packed(_RETRY_INFO, error_details_pb2.RetryInfo(retry_delay=delay)))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(_packed(_BAD_REQUEST, error_details_pb2.BadRequest(field_violations=[violation])))
    return status_pb2.Status(code=code_number(error), message=error.message, details=details)


def metadata_of(error: errors.FerserveError) -> dict[str, str]:
    """Returns the facts of an error, whether a retry is safe, where that is known, and the trace of the call."""
    facts = error.metadata
    if error.retry_safe is not None:
        facts = facts | {RETRY_SAFE: "true" if error.retry_safe else "false"}
    spans = sampled_spans.get()
    return facts | {TRACE_ID: spans[0].trace_id_hex} if spans else facts


def code_number(error: errors.FerserveError) -> int:
    """Returns the status code of an error as its number on the wire, 1 to 16."""
    return _NUMBERS[type(error)]


def trailers_of(error: errors.FerserveError) -> Sequence[tuple[str, str | bytes]]:
    """Returns the trailing metadata with the status; a pushback where waiting helps, for clients that retry."""
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status_of(error).SerializeToString())]
    if error.retry_safe is False:
        trailers.append(("grpc-retry-pushback-ms", _DO_NOT_RETRY))
    elif error.retry_after_s is not None:
        trailers.append(("grpc-retry-pushback-ms", str(round(error.retry_after_s * 1000))))
    return trailers


def _packed(
    type_url: str,
    message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo | error_details_pb2.BadRequest,
) -> any_pb2.Any:
    # `Any.Pack` looks its type up in Python each time.
    return any_pb2.Any(type_url=type_url, value=message.SerializeToString())
