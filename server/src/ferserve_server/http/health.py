"""Implements the liveness and readiness probes. They are not counted as calls, and never rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import DrainingError, ModelNotReadyError
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.http.calls import send_reply
from ferserve_server.http.responses import error_reply, json_reply

if TYPE_CHECKING:
    from aiohttp import web

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.services.health import HealthReporter


def why_not_ready(*, draining: bool, ready: bool, default_model: str) -> FerserveError | None:
    """Returns why the server is not ready, or None; `default_model` "": the models run elsewhere. Pure."""
    if draining:
        return DrainingError()
    if ready:
        return None
    return ModelNotReadyError(default_model) if default_model else UpstreamUnavailableError()


class HealthRoutes:
    """Implements the probes from the state of gRPC's health. Event loop only."""

    def __init__(self, health: HealthReporter, default_model: str) -> None:
        self._health = health
        self._default_model = default_model

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Returns 200: a process that answers is alive."""
        return await send_reply(request, json_reply({"live": True}))

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Returns 200 while the default model answers and the server does not drain; else 503 and the reason."""
        error = why_not_ready(
            draining=self._health.draining, ready=self._health.ready, default_model=self._default_model
        )
        return await send_reply(request, json_reply({"ready": True}) if error is None else error_reply(error))
