"""Maps reasons and status codes of a server to the error class that a caller catches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grpc import StatusCode

from ferserve_client import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASS_OF_REASON: Final[Mapping[str, type[errors.FerserveError]]] = {
    "FACES_REQUIRED": errors.InvalidRequestError,
    "IMAGES_REQUIRED": errors.InvalidRequestError,
    "TOO_MANY_FACES": errors.RequestTooLargeError,
    "TOO_MANY_IMAGES": errors.RequestTooLargeError,
    "MESSAGE_TOO_LARGE": errors.RequestTooLargeError,
    "IMAGE_TOO_LARGE": errors.RequestTooLargeError,
    "IMAGE_UNREADABLE": errors.ImageUnreadableError,
    "IMAGE_FORMAT_UNSUPPORTED": errors.ImageUnreadableError,
    "FACE_SIZE_INVALID": errors.InvalidRequestError,
    "PIXELS_LENGTH_MISMATCH": errors.InvalidRequestError,
    "MESSAGE_UNREADABLE": errors.InvalidRequestError,
    "OPTION_OUT_OF_RANGE": errors.InvalidRequestError,
    "MODEL_NAME_INVALID": errors.InvalidRequestError,
    "ALIAS_NAME_INVALID": errors.InvalidRequestError,
    "STREAM_CONFIG_REQUIRED": errors.InvalidRequestError,
    "STREAM_CONFIG_REPEATED": errors.InvalidRequestError,
    "SEQUENCE_NOT_RISING": errors.InvalidRequestError,
    "QUEUE_FULL": errors.QueueFullError,
    "MODEL_NOT_FOUND": errors.ModelNotFoundError,
    "VERSION_NOT_FOUND": errors.ModelNotFoundError,
    "ALIAS_NOT_FOUND": errors.ModelNotFoundError,
    "VERSION_IN_USE": errors.InvalidRequestError,
    "ALIAS_FIXED": errors.InvalidRequestError,
    "STATE_NOT_SAVED": errors.InvalidRequestError,
    "NO_CANARY": errors.InvalidRequestError,
    "NO_OLDER_VERSION": errors.InvalidRequestError,
    "CONTROL_DISABLED": errors.AccessDeniedError,
    "CONTROL_FORBIDDEN": errors.AccessDeniedError,
    "CONTROL_THROTTLED": errors.AccessDeniedError,
    "CONTROL_UNAUTHENTICATED": errors.AccessDeniedError,
    "DRAINING": errors.ServerDrainingError,
    "MODEL_NOT_READY": errors.ModelNotReadyError,
    "VERSION_NOT_READY": errors.ModelNotReadyError,
    "ENGINE_STALLED": errors.EngineStalledError,
    "ENGINE_LOST": errors.EngineStalledError,
    "UPSTREAM_UNAVAILABLE": errors.ServerUnavailableError,
    "VERSION_CHANGED": errors.ServerUnavailableError,
    "DEADLINE_UNMEETABLE": errors.DeadlineUnmeetableError,
    "DEADLINE_EXPIRED": errors.DeadlineExceededError,
    "INFERENCE_FAILED": errors.InferenceFailedError,
    "INTERNAL": errors.ServerFailedError,
}

CLASS_OF_CODE: Final[Mapping[StatusCode, type[errors.FerserveError]]] = {
    StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    StatusCode.FAILED_PRECONDITION: errors.InvalidRequestError,
    StatusCode.NOT_FOUND: errors.NotFoundError,
    StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    StatusCode.UNAVAILABLE: errors.ServerUnavailableError,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    StatusCode.PERMISSION_DENIED: errors.AccessDeniedError,
    StatusCode.UNAUTHENTICATED: errors.AccessDeniedError,
    StatusCode.UNIMPLEMENTED: errors.CallUnsupportedError,
    StatusCode.CANCELLED: errors.CallCancelledError,
    StatusCode.INTERNAL: errors.ServerFailedError,
    StatusCode.UNKNOWN: errors.ServerFailedError,
    StatusCode.DATA_LOSS: errors.ServerFailedError,
}


def error_of(facts: errors.ErrorFacts) -> errors.FerserveError:
    """Make the error of the facts.

    A reason that is not in the table (of a newer server) falls back to its code, and a code that is
    not in the table to `FerserveError`.
    """
    by_code = CLASS_OF_CODE.get(facts.code, errors.FerserveError)
    return CLASS_OF_REASON.get(facts.reason, by_code)(facts)
