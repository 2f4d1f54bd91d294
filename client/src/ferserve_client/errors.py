"""Defines the errors of calls, by cause.

    your call --- bad input -------------------------------> InvalidRequestError
        |     --- nobody there, or it says no for now -----> ServerUnavailableError
        |            |- on its way out -----------------------> ServerDrainingError
        |            |- model still loading ------------------> ModelNotReadyError
        |            `- engine hangs or died, restarts -------> EngineStalledError
        |     --- no such model, version or service -------> NotFoundError
        |     --- no room left ----------------------------> ResourceExhaustedError
        |            `- the queue is full --------------------> QueueFullError
        |     --- too late --------------------------------> DeadlineExceededError
        |            `- rejected at once, could not be met ----> DeadlineUnmeetableError
        |     --- missing or wrong credentials ------------> AccessDeniedError
        |     --- the server does not know the call -------> CallUnsupportedError
        |     --- this side closed it ---------------------> CallCancelledError
        `     --- the server is at fault ------------------> ServerFailedError
                     `- the model failed on it ---------------> InferenceFailedError

The same classes are raised for a call that fails as a whole and stand as values in `error` of one
face, picture or frame that failed alone. `error_table` says which reason becomes which class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """Names a field of a request that broke a rule."""

    field: str
    """Path of the field in the request, such as `packed.pixels`."""
    description: str
    """The rule that it broke."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """Holds all that is known of one failure."""

    code: grpc.StatusCode
    """The gRPC status code."""
    reason: str = ""
    """Stable reason in UPPER_SNAKE_CASE. Empty when it was not a ferserve server that spoke."""
    message: str = ""
    """Problem and remedy, in English, for people."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The changing parts of the message, by name, for programs."""
    field_violations: tuple[FieldViolation, ...] = ()
    """The fields that broke rules. Of calls that fail as a whole only."""
    retry_delay_s: float | None = None
    """Shortest wait before another try, as the server asks for it. None: it did not say."""


class FerserveError(Exception):
    """Reports that a call, or one part of its answer, failed. Base of all errors that a server causes."""

    def __init__(self, facts: ErrorFacts) -> None:
        super().__init__(facts)
        self.facts = facts

    def __str__(self) -> str:
        label = self.reason or self.code.name
        return f"{label}: {self.message}" if self.message else label

    @property
    def code(self) -> grpc.StatusCode:
        """Return the gRPC status code."""
        return self.facts.code

    @property
    def reason(self) -> str:
        """Return the stable reason in UPPER_SNAKE_CASE, or nothing."""
        return self.facts.reason

    @property
    def message(self) -> str:
        """Return the problem and its remedy, for people."""
        return self.facts.message

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the changing parts of the message, by name."""
        return self.facts.metadata

    @property
    def field_violations(self) -> tuple[FieldViolation, ...]:
        """Return the fields that broke rules."""
        return self.facts.field_violations

    @property
    def retry_safe(self) -> bool | None:
        """Return the server's word on the safety of sending the request again.

        True: no model has run on it. False: one has, and may have failed because of it, so that
        sending it again may do the same harm again. None: the server did not say, or did not answer.
        """
        return {"true": True, "false": False}.get(self.metadata.get("retry_safe", ""))

    @property
    def retry_delay_s(self) -> float | None:
        """Return the shortest wait before another try in seconds, or None."""
        return self.facts.retry_delay_s


class InvalidRequestError(FerserveError):
    """Reports a request that breaks a rule; sending it again will not help."""


class ImageUnreadableError(InvalidRequestError):
    """Reports a picture that is damaged, or of a format that the server does not read."""


class RequestTooLargeError(InvalidRequestError):
    """Reports too many faces, pictures, pixels or bytes (MESSAGE_TOO_LARGE) for one request."""


class NotFoundError(FerserveError):
    """Reports something that is not there."""


class ModelNotFoundError(NotFoundError):
    """Reports a missing model, or version or alias of one (VERSION_NOT_FOUND, ALIAS_NOT_FOUND)."""


class ResourceExhaustedError(FerserveError):
    """Reports a call for which there is no room."""


class QueueFullError(ResourceExhaustedError):
    """Reports a server with more work than it may queue. Try again after `retry_delay_s`."""


class ServerUnavailableError(FerserveError):
    """Nobody answers (`reason` is empty then), or the server cannot answer for now."""


class ServerDrainingError(ServerUnavailableError):
    """Reports a server that is stopping and takes nothing new."""

    @property
    def last_sequence_id(self) -> int | None:
        """Return the last frame or batch of the stream that was answered, to resume after it.

        None if none was, or if the call was not a stream.
        """
        text = self.metadata.get("last_sequence_id", "")
        return int(text) if text.isdecimal() else None


class ModelNotReadyError(ServerUnavailableError):
    """No version of the model is ready, or not the one that an alias names (reason VERSION_NOT_READY)."""


class EngineStalledError(ServerUnavailableError):
    """Reports an inference engine that hangs or has died (reason ENGINE_LOST), and is being restarted.

    `retry_safe` is False if it had this request, which may be the cause: it is not sent again by itself.
    """


class DeadlineExceededError(FerserveError):
    """Reports an answer that did not come in time."""


class DeadlineUnmeetableError(DeadlineExceededError):
    """Reports a call that the server rejected at once, because its answer could not have come in time."""


class AccessDeniedError(FerserveError):
    """Reports missing or wrong credentials."""


class CallUnsupportedError(FerserveError):
    """Reports a call that the server does not know. It may be older, or no ferserve."""


class CallCancelledError(FerserveError):
    """Reports a cancelled call, as by closing the client while it ran."""


class ServerFailedError(FerserveError):
    """Reports a failure of the server that is not the request's fault."""


class InferenceFailedError(ServerFailedError):
    """Reports a model that failed on this input."""
