"""Reads failures: of whole calls from their status details, of parts from `Failure`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from ferserve_client.error_table import error_of
from ferserve_client.errors import ErrorFacts, FerserveError, FieldViolation, ServerDrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve.v1 import failure_pb2

DOMAIN: Final = "ferserve"
"""Domain of the server's reasons. A proxy in between may attach an ErrorInfo of its own."""

_DETAILS_KEY: Final = "grpc-status-details-bin"
_CODE_OF_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


def read_call_error(call: grpc.RpcError) -> FerserveError:
    """Read the error of a call that failed as a whole, blocking or asyncio.

    Details that are not there, or damaged, leave an error with code and message alone.
    """
    details = _read_details(call.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad_request = error_details_pb2.BadRequest()
    has_retry = False
    for detail in details:
        candidate = error_details_pb2.ErrorInfo()
        if detail.Unpack(candidate) and candidate.domain == DOMAIN:
            info = candidate
        has_retry |= detail.Unpack(retry)
        detail.Unpack(bad_request)
    message = call.details() or ""
    return error_of(
        ErrorFacts(
            code=call.code(),
            reason=info.reason or _grpc_reason(call.code(), message),
            message=message,
            metadata=dict(info.metadata),
            field_violations=tuple(
                FieldViolation(violation.field, violation.description)
                for violation in bad_request.field_violations
            ),
            retry_delay_s=max(0.0, retry.retry_delay.ToTimedelta().total_seconds()) if has_retry else None,
        )
    )


def read_stream_error(call: grpc.RpcError, last_sequence_id: int | None) -> FerserveError:
    """Read the error of a stream that ended early.

    The place to resume after draining is the last answer that was received, not the last that the server says it
    sent: a connection that breaks, or a proxy in between, can swallow the last answers.

    Args:
        call: The call that failed.
        last_sequence_id: Number of the last answer that was received; None: of none.
    """
    error = read_call_error(call)
    if not isinstance(error, ServerDrainingError):
        return error
    metadata = {key: value for key, value in error.metadata.items() if key != "last_sequence_id"}
    if last_sequence_id is not None:
        metadata["last_sequence_id"] = str(last_sequence_id)
    return error_of(dataclasses.replace(error.facts, metadata=metadata))


def read_failure(failure: failure_pb2.Failure) -> FerserveError:
    """Read the error of one face, picture, frame or batch that failed alone."""
    return error_of(
        ErrorFacts(
            code=_CODE_OF_NUMBER.get(failure.code, grpc.StatusCode.UNKNOWN),
            reason=failure.reason,
            message=failure.message,
            metadata=dict(failure.metadata),
        )
    )


def _grpc_reason(code: grpc.StatusCode, message: str) -> str:
    # gRPC itself rejects large messages, here before they are sent or in a grpcio server, without details.
    too_large = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in message
    return "MESSAGE_TOO_LARGE" if too_large and not message.startswith("CLIENT: Received") else ""


def _read_details(metadata: Iterable[Any]) -> Iterable[Any]:
    # grpc_status.rpc_status rejects details whose code or message differs from the call's, as after a
    # local cancellation; the details are still the best that is known.
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return tuple(status_pb2.Status.FromString(value).details)
            except (DecodeError, ValueError):
                return ()
    return ()
