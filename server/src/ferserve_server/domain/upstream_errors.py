"""Defines the errors of models that other servers run; `errors` shows the step of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError

if TYPE_CHECKING:
    from ferserve_server.domain.servable import ServableId


class UpstreamUnavailableError(FerserveError):
    """Reports that no server of the model tier answers."""

    reason = "UPSTREAM_UNAVAILABLE"

    def __init__(
        self, why: str = "no server of it can be reached, or none is ready", *, retry_safe: bool = True
    ) -> None:
        super().__init__(
            f"The model tier behind this server does not answer: {why}.{' Try again.' if retry_safe else ''}",
            {"why": why},
            retry_after_s=1.0 if retry_safe else None,
        )
        self.retry_safe = retry_safe


class VersionChangedError(FerserveError):
    """Reports that other servers answered parts of one request with different versions.

    Attributes:
        servable: The one that scored the first part, or None if that is not known here.
    """

    reason = "VERSION_CHANGED"
    retry_safe = True
    servable: ServableId | None = None

    def __init__(self, servable: ServableId) -> None:
        super().__init__(
            f"The version of model {servable.name!r} changed while the request was answered. Try again.",
            {"model": servable.name},
            retry_after_s=0.1,
        )
        self.servable = servable
