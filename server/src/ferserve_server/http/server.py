"""The HTTP server: its paths and its address. It runs on the event loop of the gRPC server."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ferserve_server.http.analyze import AnalyzeRoute
from ferserve_server.http.body import BodyReader
from ferserve_server.http.calls import HttpCalls, send_reply
from ferserve_server.http.health import HealthRoutes
from ferserve_server.http.open_inference import OpenInferenceRoutes, RepositoryRoutes
from ferserve_server.http.responses import error_reply, method_not_allowed, no_such_path
from ferserve_server.runtime.addresses import ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.ports import Clock
    from ferserve_server.grpc.grpcio_server import TlsFiles
    from ferserve_server.interop.open_inference.handlers import OpenInference
    from ferserve_server.interop.open_inference.service import RepositoryControl
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.services.limits import RequestLimits

_LONGEST_GOODBYE_S: Final = 1.0
"""What was answered is written by then; what is left is cut, as the gRPC server does."""

_IDLE_S: Final = 75.0
"""Idle connections are closed after this. Proxies close theirs after 60 s, and must be the first to."""


def build_http(  # noqa: PLR0913 - its collaborators, each a port or a value
    calls: Calls,
    analyze: AnalyzeImages,
    open_inference: OpenInference | None,
    repository: RepositoryControl,
    health: HealthReporter,
    *,
    default_model: str,
    limits: RequestLimits,
    body_timeout_s: float,
    detection: DetectionOptions,
    clock: Clock,
) -> web.Application:
    """Makes everything that is answered, not yet listening.

    Args:
        calls: Takes calls in and sees them out.
        analyze: Finds and scores the faces of pictures.
        open_inference: Answers below /v2, or None if nothing does.
        repository: Loads and unloads models there.
        health: What probes are told.
        default_model: Name of the model that must be ready; "" if the models run in a model tier.
        limits: Bounds of a request.
        body_timeout_s: Within how many seconds a body must arrive.
        detection: How to look for faces, unless a request says otherwise.
        clock: Tells deadlines.
    """
    http_calls = HttpCalls(calls)
    bodies = BodyReader(limits, body_timeout_s)
    probes = HealthRoutes(health, default_model)
    pictures = AnalyzeRoute(analyze, bodies, limits=limits, detection=detection, clock=clock)
    application = web.Application(middlewares=[_errors_as_json])
    application.add_routes(
        [
            web.get("/healthz", probes.live),
            web.get("/readyz", probes.ready),
            web.post("/v1/analyze", http_calls.handler("analyze", pictures.answer)),
        ]
    )
    if open_inference is not None:
        application.add_routes(OpenInferenceRoutes(http_calls, open_inference, probes, bodies, clock).routes())
        application.add_routes(RepositoryRoutes(http_calls, repository, bodies).routes())
    return application


@contextlib.asynccontextmanager
async def listening_http(application: web.Application, address: str, tls: TlsFiles | None) -> AsyncIterator[int]:
    """Listens, and yields the port. On leaving, what is still open is cut after a second.

    Args:
        application: What to answer.
        address: HOST:PORT; port 0 picks a free one.
        tls: For HTTPS, or None.

    Raises:
        ListenError: It is no HOST:PORT, it is taken, or the TLS files cannot be used.
    """
    context = None if tls is None else tls.context()
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_silent(),
        handler_cancellation=True,
        shutdown_timeout=_LONGEST_GOODBYE_S,
        keepalive_timeout=_IDLE_S,
    )
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        try:
            # One process per port: a second server on it must fail, not share the callers by accident.
            site = web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=context, reuse_port=False)
            await site.start()
        except (OSError, ValueError, OverflowError) as error:
            raise ListenError(
                f"cannot serve HTTP on {address!r}: {error}; choose another with --http-listen"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Says in JSON what the router has to say."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refusal:
        allowed = ", ".join(sorted(refusal.allowed_methods))
        reply = error_reply(method_not_allowed(request.method, allowed), {"Allow": allowed})
        return await send_reply(request, reply)
    except web.HTTPNotFound:
        return await send_reply(request, error_reply(no_such_path(request.path)))


def _silent() -> logging.Logger:
    """The library logs who sent it no HTTP, with a trace. Calls that fail are logged by `Calls`."""
    logger = logging.getLogger("ferserve_server.http")
    logger.disabled = True
    return logger
