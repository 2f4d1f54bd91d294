"""Builds the HTTP application: its routes and its errors. It runs on the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from ferserve_server.domain.errors import FerserveError
from ferserve_server.http.analyze import AnalyzeRoute
from ferserve_server.http.body import BodyReader
from ferserve_server.http.calls import HttpCalls, send_reply
from ferserve_server.http.health import HealthRoutes
from ferserve_server.http.models import ModelsRoute
from ferserve_server.http.open_inference import OpenInferenceRoutes, RepositoryRoutes
from ferserve_server.http.page_files import page_routes
from ferserve_server.http.responses import error_reply, method_not_allowed, no_such_path
from ferserve_server.http.stream import StreamRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.models import Models
    from ferserve_server.domain.ports import Clock
    from ferserve_server.http.origins import OriginPolicy
    from ferserve_server.interop.open_inference.handlers import OpenInference
    from ferserve_server.interop.open_inference.service import RepositoryControl
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.services.limits import RequestLimits

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Holds the settings of the HTTP interface.

    Attributes:
        default_model: Name of the model that must be ready; "" if the models run in a model tier.
        body_timeout_s: The body of a request must arrive within this many seconds.
        detection: Detection options of requests that set none.
        origins: Pages that may open streams and make control calls.
        page: True to serve the page.
    """

    default_model: str
    body_timeout_s: float
    detection: DetectionOptions
    origins: OriginPolicy
    page: bool


def build_http(  # noqa: PLR0913 - its collaborators, each a port or a value
    calls: Calls,
    analyze: AnalyzeImages,
    emotion: EmotionServicer,
    models: Models,
    open_inference: OpenInference | None,
    repository: RepositoryControl,
    health: HealthReporter,
    *,
    limits: RequestLimits,
    options: HttpOptions,
    clock: Clock,
) -> web.Application:
    """Builds the application; it does not listen yet.

    Args:
        calls: Counts calls, and rejects them while the server drains.
        analyze: Finds and scores the faces of pictures.
        emotion: Answers frame streams.
        models: The models.
        open_inference: Answers below /v2, or None to answer nothing there.
        repository: Loads and unloads models there.
        health: State for probes.
        limits: Bounds of a request.
        options: Settings.
        clock: Reads the time of deadlines.
    """
    http_calls = HttpCalls(calls)
    bodies = BodyReader(limits, options.body_timeout_s)
    probes = HealthRoutes(health, options.default_model)
    pictures = AnalyzeRoute(analyze, bodies, limits=limits, detection=options.detection, clock=clock)
    stream = StreamRoute(calls, emotion, models.acquire, limits, options.origins, options.body_timeout_s)
    application = web.Application(middlewares=[_errors_as_json])
    application.cleanup_ctx.append(_draining_bodies(calls, bodies))
    application.add_routes(
        [
            web.get("/healthz", probes.live),
            web.get("/readyz", probes.ready),
            web.post("/v1/analyze", http_calls.handler("analyze", pictures.answer)),
            web.get("/v1/models", http_calls.handler("models", ModelsRoute(models.models).answer)),
            web.get("/v1/stream", stream.answer, allow_head=False),
        ]
    )
    if options.page:
        application.add_routes(page_routes())
    if open_inference is not None:
        application.add_routes(OpenInferenceRoutes(http_calls, open_inference, probes, bodies, clock).routes())
        application.add_routes(RepositoryRoutes(http_calls, repository, bodies, options.origins).routes())
    return application


def _draining_bodies(calls: Calls, bodies: BodyReader) -> Callable[[web.Application], AsyncIterator[None]]:
    """Makes the context that notifies the body reader of a drain, while the application runs."""

    async def follow() -> None:
        await calls.draining.wait()
        bodies.drain()

    async def context(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(follow())
        yield
        task.cancel()

    return context


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Writes the router's errors, and those that no handler expected, as JSON."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as rejection:
        allowed = ", ".join(sorted(rejection.allowed_methods))
        reply = error_reply(method_not_allowed(request.method, allowed), {"Allow": allowed})
        return await send_reply(request, reply)
    except web.HTTPNotFound:
        return await send_reply(request, error_reply(no_such_path(request.path)))
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:
        log.exception("request failed", path=request.path[:200])
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun; the connection is cut.") from error
        return await send_reply(request, error_reply(FerserveError(_FAILED)), last=True)


_FAILED = "The server failed on this request. Its log tells more."
