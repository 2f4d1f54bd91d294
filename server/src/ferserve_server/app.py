"""Wiring: what a server is made of, and the order in which things start and end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server import __version__
from ferserve_server.background import background
from ferserve_server.clock import MonotonicClock
from ferserve_server.model_assembly import build_manager, default_loader
from ferserve_server.model_lifecycle import close_models, judge_canaries, keep_models
from ferserve_server.observability.exposition import MetricsServer
from ferserve_server.observability.metrics import Metrics
from ferserve_server.observability.observers import CallMetrics, VisionMetrics
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from ferserve_server.pipeline.stream_frames import StreamLimits
from ferserve_server.transport.calls import Calls
from ferserve_server.transport.compat.statistics import Statistics
from ferserve_server.transport.control import build_control
from ferserve_server.transport.control_server import listening_control
from ferserve_server.transport.emotion_servicer import EmotionServicer
from ferserve_server.transport.health import HealthReporter
from ferserve_server.transport.interop import build_interop, compat_names
from ferserve_server.transport.limits import RequestLimits
from ferserve_server.transport.model_servicer import ModelServicer
from ferserve_server.transport.server import TlsFiles, build_server, listen
from ferserve_server.vision.pool import VisionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ferserve_server.domain.ports import Loader
    from ferserve_server.repository.manager import ModelManager
    from ferserve_server.settings import Settings

log = structlog.get_logger(__name__)

_QUIET_S: Final = 0.1
"""After a drain the server stops when no call came for this long: a round trip within a continent."""

_LONGEST_GOODBYE_S: Final = 1.0
"""But it waits for that no longer than this, should callers not heed the drain."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers.

    Attributes:
        port: Port of the gRPC service.
        http_port: Port of JSON over HTTP, or None.
        metrics_port: Port of /metrics, or None.
        control_port: Port of control calls' own address, or None.
        drain: Goes down in good order: health first, then intake, then what was taken. Returns whether all of it
            was answered in time.
    """

    port: int
    http_port: int | None
    metrics_port: int | None
    control_port: int | None
    drain: Callable[[], asyncio.Future[bool]]


async def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT, and drains.

    Returns:
        The exit code: 0 if everything that was taken was answered, 1 if the drain ran out of time.

    Raises:
        ListenError, MetricsAddressError: An address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_server(settings, default_loader(settings)) as server:
        await stop.wait()
        return 0 if await server.drain() else 1


@contextlib.asynccontextmanager
async def running_server(settings: Settings, loader: Loader) -> AsyncIterator[RunningServer]:
    """Starts a server; on leaving it is stopped, drained or not.

    It listens before the models are loaded: health says NOT_SERVING and calls get MODEL_NOT_READY until they are.
    """
    clock = MonotonicClock()
    metrics = Metrics()
    metrics.build_info.labels(__version__).set(1)
    call_metrics = CallMetrics(metrics)
    statistics = Statistics()
    limits = RequestLimits(
        settings.max_message_bytes,
        settings.max_metadata_bytes,
        settings.max_faces_per_request,
        settings.max_images_per_request,
        settings.max_detection_side_pixels,
    )
    calls = Calls(limits, call_metrics, clock)
    health = HealthReporter(compat_names(settings))
    health_changed = asyncio.Event()
    manager = build_manager(settings, loader, clock, metrics, statistics, health_changed.set)

    async with contextlib.AsyncExitStack() as stack:
        vision = VisionPool(
            thread_count=settings.vision_threads or len(os.sched_getaffinity(0)),
            max_image_pixels=settings.max_image_pixels,
            max_faces_per_image=settings.max_faces_per_image,
            max_queue_images=settings.max_queue_images,
            observer=VisionMetrics(metrics),
        )
        stack.callback(vision.close)
        classify = ClassifyFaces(manager.acquire, vision)
        analyze = AnalyzeImages(manager.acquire, vision)
        emotion = EmotionServicer(
            calls,
            classify,
            analyze,
            limits=limits,
            stream_limits=StreamLimits(settings.max_unanswered_messages, settings.max_running_frames),
            detection=settings.detection,
            observer=call_metrics,
            clock=clock,
        )
        control, own_control = build_control(settings, manager)
        models = ModelServicer(calls, manager.models, manager.model, control)
        interop = build_interop(
            settings,
            calls,
            classify,
            analyze,
            manager,
            statistics,
            control=control,
            own_control=own_control,
            limits=limits,
            clock=clock,
        )
        server = build_server(
            emotion, models, health, limits, interop.handlers, with_reflection=settings.reflection
        )
        tls = TlsFiles.named(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
        port = listen(server, settings.listen, tls)
        metrics_port = None
        if settings.metrics_listen != "off":
            metrics_port = stack.enter_context(MetricsServer(metrics.registry, settings.metrics_listen)).port

        stack.push_async_callback(close_models, manager)
        await health.report(ready=False)
        http_port = None
        # Their own stack, so that a drain can close them with the gRPC server.
        others = await stack.enter_async_context(contextlib.AsyncExitStack())
        if settings.http_listen != "off":
            # Here, because who turns it off shall not pay 7 MiB and 0.5 s for the library.
            from ferserve_server.transport.http.server import build_http, listening_http  # noqa: PLC0415

            application = build_http(
                calls,
                analyze,
                interop.open_inference,
                interop.repository,
                health,
                default_model=settings.default_model,
                limits=limits,
                body_timeout_s=settings.http_body_timeout_s,
                detection=settings.detection,
                clock=clock,
            )
            http_port = await others.enter_async_context(listening_http(application, settings.http_listen, tls))
        own_models = ModelServicer(calls, manager.models, manager.model, own_control)
        control_port = await others.enter_async_context(
            listening_control(settings.control_listen, own_models, limits, interop.control_handlers, tls)
        )
        stack.enter_context(background(_follow_health(manager, health, health_changed)))
        await server.start()
        stack.push_async_callback(server.stop, 0)
        log.info(
            "listening",
            port=port,
            control_port=control_port,
            http_port=http_port,
            metrics_port=metrics_port,
            version=__version__,
        )
        stack.enter_context(background(keep_models(manager, settings)))
        if (window_s := settings.canaries.shortest_window_s) is not None:
            stack.enter_context(background(judge_canaries(manager, window_s)))

        async def stop() -> None:
            await asyncio.gather(server.stop(grace=1.0), others.aclose())

        yield RunningServer(
            port,
            http_port,
            metrics_port,
            control_port,
            lambda: asyncio.ensure_future(_drain(settings, health, calls, stop)),
        )


async def _drain(
    settings: Settings, health: HealthReporter, calls: Calls, stop: Callable[[], Awaitable[None]]
) -> bool:
    """Goes down in good order; returns whether all that was taken was answered in time."""
    log.info("draining", timeout_s=settings.drain_timeout_s)
    await health.drain()
    await asyncio.sleep(settings.lame_duck_s)
    calls.draining.set()
    try:
        async with asyncio.timeout(settings.drain_timeout_s):
            await calls.wait_idle()
    except TimeoutError:
        log.error("drain timed out; calls are cut")  # noqa: TRY400 - no trace: nothing is broken
        return False
    # Every call that was taken is answered. Those on their way here get DRAINING rather than be cut off.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_GOODBYE_S):
            await calls.wait_quiet(_QUIET_S)
    # The answers are written; a moment for the transport to send them.
    await stop()
    log.info("drained")
    return True


async def _follow_health(manager: ModelManager, health: HealthReporter, changed: asyncio.Event) -> None:
    while True:
        await health.report(ready=manager.default_ready)
        await changed.wait()
        changed.clear()
