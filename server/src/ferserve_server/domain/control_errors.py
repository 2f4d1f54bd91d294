"""Defines the errors of calls that change the active versions; `errors` shows the step of each."""

from __future__ import annotations

from ferserve_server.domain.errors import FerserveError


class NoCanaryError(FerserveError):
    """Rejects a decision about a version that is not a canary."""

    reason = "NO_CANARY"

    def __init__(self, name: str, version: int | None, canary: int | None) -> None:
        wanted = "There is no version" if version is None else f"Version {version} is not"
        has = "no version has that alias" if canary is None else f"the alias canary names version {canary}"
        super().__init__(
            f"{wanted} running as a canary: of model {name!r} {has}. GetModel lists the active versions.",
            {"model": name, "version": version or 0, "canary": canary or 0},
        )


class NoOlderVersionError(FerserveError):
    """Reports that there is no version to roll back to."""

    reason = "NO_OLDER_VERSION"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"Version {version} of model {name!r} stays: there is no usable version before it to go back to. "
            "Put one into the model folder.",
            {"model": name, "version": version},
        )


class StateNotSavedError(FerserveError):
    """Reports that a decision cannot be written to the state file."""

    reason = "STATE_NOT_SAVED"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The decision cannot be saved: {why}. An alias is as it was; anything else is active, and a "
            "restart of the server forgets it. Mend the server's lifecycle_state_file and send the call again.",
            {"why": why},
        )


class ControlDisabledError(FerserveError):
    """Rejects a control call at an address that takes none."""

    reason = "CONTROL_DISABLED"

    def __init__(self, *, elsewhere: bool) -> None:
        super().__init__(
            "Control calls are not taken at this address; send them to that of the setting control_listen."
            if elsewhere
            else "Control calls are turned off. Turn them on with the setting control_listen or control_on_main."
        )


class ControlUnauthenticatedError(FerserveError):
    """Rejects a control call without the right token."""

    reason = "CONTROL_UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__(
            "Control calls need the metadata 'authorization: Bearer TOKEN' with the token of the server's setting "
            "control_token_file."
        )


class ControlForbiddenError(FerserveError):
    """Rejects a control call of a client whose certificate does not have the role."""

    reason = "CONTROL_FORBIDDEN"

    def __init__(self) -> None:
        super().__init__(
            "This caller may not make control calls: its client certificate has none of the names in the server's "
            "setting control_names."
        )


class ControlThrottledError(FerserveError):
    """Rejects a control call without looking at its token, after too many wrong ones from the same host."""

    reason = "CONTROL_THROTTLED"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "Too many wrong tokens came from this host; this one was not looked at. Send the call again later.",
            retry_after_s=retry_after_s,
        )


class OriginNotAllowedError(FerserveError):
    """Rejects a request of a web page that another server sent to the browser."""

    reason = "ORIGIN_NOT_ALLOWED"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages from {origin[:80]!r} may not use this. To let them, name their origin in the setting "
            "http_origins, such as https://faces.example.com.",
            {"origin": origin[:80]},
        )
