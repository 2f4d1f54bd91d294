"""Defines the errors of the service, each assigned to the step that raises it.

::

    request --parse--> faces | pictures     InvalidRequestError, LimitExceededError
    picture --decode--> pixels              ImageUnreadableError, LimitExceededError (max_image_pixels)
    spec    --acquire--> lease              ModelNotFoundError, VersionNotFoundError, AliasNotFoundError,
                                            ModelNotReadyError, VersionNotReadyError
    crops   --admit--> queue                QueueFullError, DeadlineUnmeetableError, DrainingError
    queue   --dispatch--> batch             DeadlineExpiredError, DeadlineUnmeetableError, QueueFullError
    batch   --execute--> scores             InferenceFailedError, EngineStalledError, EngineLostError
    version --load--> servable              ModelRejectedError
    version --unload--> nothing             VersionInUseError
    alias   --set--> version                AliasFixedError, VersionNotReadyError
    anything that is not offered            UnsupportedError
    canary  --promote | roll back-->        NoCanaryError, NoOlderVersionError
    call    --control--> lifecycle          ControlDisabledError, ControlForbiddenError, ControlThrottledError,
                                            ControlUnauthenticatedError
    batch   --upstream--> scores            UpstreamUnavailableError, VersionChangedError

Those of the last three steps are in `control_errors` and `upstream_errors`.

Each class names its cause and holds its facts; `services.status` alone knows their gRPC codes. The text is
meant for callers: it says what to do and holds nothing internal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class FerserveError(Exception):
    """Defines the base of the errors whose text callers may see.

    Attributes:
        reason: Stable name of the cause, UPPER_SNAKE_CASE.
        message: What went wrong and what to do about it.
        metadata: The changing parts of the message, by name.
        field: Path of the request field at fault, or "".
        retry_after_s: When to try again, in seconds, or None if waiting alone does not help.
        retry_safe: True if no model has run on the request and sending it again may help; False if a model has,
            and may have failed because of it, so that sending it again may do the same harm again; None if
            neither is said, because trying again is of no use.
    """

    reason: ClassVar[str] = "INTERNAL"
    retry_safe: bool | None = None

    def __init__(
        self,
        message: str,
        facts: Mapping[str, object] | None = None,
        *,
        field: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {name: str(value) for name, value in (facts or {}).items()}
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidRequestError(FerserveError):
    """Rejects a request that no server could answer. `reason` differs by instance."""

    def __init__(self, reason: str, message: str, *, field: str, **facts: object) -> None:
        super().__init__(message, facts, field=field)
        self.reason = reason  # type: ignore[misc]  # a class constant elsewhere


class LimitExceededError(InvalidRequestError):
    """Rejects a request beyond one of the server's limits; names the setting that holds the limit."""

    def __init__(self, reason: str, *, what: str, value: int, limit: int, setting: str, field: str) -> None:
        super().__init__(
            reason,
            f"{what}: {value} is above this server's limit of {limit} (setting {setting}). "
            f"Send less at a time, or have the server's {setting} raised.",
            field=field,
            value=value,
            limit=limit,
            setting=setting,
        )


class ImageUnreadableError(FerserveError):
    """Reports a picture that cannot be decoded."""

    reason = "IMAGE_UNREADABLE"

    def __init__(self, why: str) -> None:
        super().__init__(f"The picture cannot be read: {why}. Send a complete JPEG, PNG or WebP.", {"why": why})


class ImageFormatError(FerserveError):
    """Reports bytes that are no picture of a known format."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"

    def __init__(self, why: str) -> None:
        super().__init__(f"Not a picture that is understood: {why}. Send a JPEG, PNG or WebP.", {"why": why})


class ModelNotFoundError(FerserveError):
    """Reports that there is no model of that name."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no model {name!r}. ListModels tells which there are.", {"model": name})


class VersionNotFoundError(FerserveError):
    """Reports that the model has no such version."""

    reason = "VERSION_NOT_FOUND"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"Model {name!r} has no version {version} in service. GetModel tells which it has.",
            {"model": name, "version": version},
        )


class AliasNotFoundError(FerserveError):
    """Reports that the model has no such alias."""

    reason = "ALIAS_NOT_FOUND"

    def __init__(self, name: str, alias: str, known: Iterable[str]) -> None:
        has = ", ".join(known) or "none"
        super().__init__(
            f"Model {name!r} has no alias {alias!r}; its aliases: {has}.",
            {"model": name, "alias": alias, "aliases": has},
        )


class VersionNotReadyError(FerserveError):
    """Reports that an alias names a version that is not ready."""

    reason = "VERSION_NOT_READY"
    retry_safe = True

    def __init__(self, name: str, version: int, alias: str) -> None:
        super().__init__(
            f"Alias {alias!r} of model {name!r} names version {version}, which is not ready. "
            "Try again; GetModel tells its state.",
            {"model": name, "version": version, "alias": alias},
            retry_after_s=1.0,
        )


class VersionInUseError(FerserveError):
    """Rejects unloading a version that an alias names, or that is the model's only one."""

    reason = "VERSION_IN_USE"

    def __init__(self, name: str, version: int, why: str) -> None:
        super().__init__(
            f"Version {version} of model {name!r} stays: {why}.", {"model": name, "version": version, "why": why}
        )


class AliasFixedError(FerserveError):
    """Rejects changing an alias that the settings fix."""

    reason = "ALIAS_FIXED"

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(
            f"Alias {alias!r} of model {name!r} is fixed by the setting alias. Change it there.",
            {"model": name, "alias": alias},
        )


class ModelNotReadyError(FerserveError):
    """Reports that the model is known, but none of its versions is ready yet."""

    reason = "MODEL_NOT_READY"
    retry_safe = True

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Model {name!r} is not ready. Try again; GetModel tells its state.",
            {"model": name},
            retry_after_s=1.0,
        )


class QueueFullError(FerserveError):
    """Rejects a request because the queue is at its limit."""

    reason = "QUEUE_FULL"
    retry_safe = True

    def __init__(self, *, what: str, queued: int, limit: int, setting: str, retry_after_s: float) -> None:
        super().__init__(
            f"The queue is full: {queued} {what} wait, the limit is {limit} (setting {setting}). "
            f"Try again in {retry_after_s * 1000:.0f} ms.",
            {"queued": queued, "limit": limit, "setting": setting},
            retry_after_s=retry_after_s,
        )


class DeadlineUnmeetableError(FerserveError):
    """Rejects a request because its deadline would pass before the answer."""

    reason = "DEADLINE_UNMEETABLE"

    def __init__(self, *, remaining_s: float, expected_s: float) -> None:
        super().__init__(
            f"The deadline in {remaining_s * 1000:.0f} ms cannot be met: an answer takes about "
            f"{expected_s * 1000:.0f} ms now. Give more time, or try again later.",
            {"remaining_ms": round(remaining_s * 1000), "expected_ms": round(expected_s * 1000)},
        )


class DeadlineExpiredError(FerserveError):
    """Reports that the deadline passed before there was an answer."""

    reason = "DEADLINE_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The deadline passed before there was an answer. Give more time.")


class DrainingError(FerserveError):
    """Rejects a request because the server is shutting down.

    On a stream `last_sequence_id` is the last message that was answered, -1 if none was.
    """

    reason = "DRAINING"
    retry_safe = True

    def __init__(self, *, last_sequence_id: int | None = None) -> None:
        super().__init__(
            "The server is draining. Send to another one, or try again when it is back.",
            None if last_sequence_id is None else {"last_sequence_id": last_sequence_id},
            retry_after_s=1.0,
        )


class InferenceFailedError(FerserveError):
    """Reports that the model failed on this face. Its neighbours in the batch were answered."""

    reason = "INFERENCE_FAILED"

    def __init__(self) -> None:
        super().__init__("The model failed on this input. The server's log tells more.")


class EngineStalledError(FerserveError):
    """Reports that the engine hung and was restarted. The request may be the cause."""

    reason = "ENGINE_STALLED"
    retry_safe = False

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"The engine gave no answer to this request within {timeout_s:g} s and was restarted. "
            "Do not send it again unless you know that it is not at fault.",
            {"timeout_s": timeout_s},
        )


class EngineLostError(FerserveError):
    """Reports that the engine process ended, as by a crash or lack of memory, and is being restarted.

    Attributes:
        executed: Whether it ended with rows of this request, any of which may be the cause.
    """

    reason = "ENGINE_LOST"
    executed: bool = True

    def __init__(self, *, executed: bool) -> None:
        if executed:
            text = (
                "ended while it ran this request, and is being restarted. "
                "Do not send the request again unless you know that it is not at fault."
            )
        else:
            text = "ended and is being restarted; it did not have this request. Try again."
        super().__init__(f"The engine's process {text}", retry_after_s=None if executed else 1.0)
        self.executed = executed
        self.retry_safe = not executed


class UnsupportedError(FerserveError):
    """Rejects a feature of an interface that this server does not offer."""

    reason = "UNSUPPORTED"


class ModelRejectedError(FerserveError):
    """Rejects a version of the repository that may not be served. `reason` differs by instance.

    Attributes:
        transient: Whether it may be served later without a change of its files, as when memory was short.
    """

    transient = False

    def __init__(self, reason: str, message: str, **facts: object) -> None:
        super().__init__(message, facts)
        self.reason = reason  # type: ignore[misc]  # a class constant elsewhere


class ModelKeyError(Exception):
    """Reports that a public key of a signer of versions cannot be used; the text says why."""
