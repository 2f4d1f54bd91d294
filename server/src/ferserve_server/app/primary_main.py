"""Builds a server and starts and stops its parts in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from ferserve_server import __version__
from ferserve_server.app.drain import DRAIN_SLACK_S, StopSignals, drain
from ferserve_server.app.models import build_manager, close_models, running_model_tasks
from ferserve_server.app.overrides import NO_OVERRIDES
from ferserve_server.app.services import build_service, build_vision, follow_health
from ferserve_server.app.upstream import running_upstream
from ferserve_server.app.workers import running_workers
from ferserve_server.domain import metrics
from ferserve_server.domain.errors import ModelKeyError
from ferserve_server.grpc.control_server import listening_control
from ferserve_server.http2.listener import accepting
from ferserve_server.interop.statistics import Statistics
from ferserve_server.runtime.addresses import ListenError, ReservedPort, bound, port_of, sibling_address
from ferserve_server.runtime.background_tasks import background
from ferserve_server.runtime.clock import MonotonicClock
from ferserve_server.runtime.connection_limits import ConnectionLimiter, connection_budget, raise_descriptor_limit
from ferserve_server.runtime.garbage_collection import freeze_startup_objects
from ferserve_server.runtime.process_output import dropped_line_count
from ferserve_server.services.control import ControlExposedError, TokenFileError, check_exposure
from ferserve_server.telemetry.aggregation import MergedRegistry
from ferserve_server.telemetry.exposition import MetricsServer
from ferserve_server.telemetry.otlp import TracingError, opened_tracer
from ferserve_server.telemetry.recorder import PrometheusRecorder
from ferserve_server.upstream.channel import UpstreamFilesError
from ferserve_server.workers.supervisor import BroadcastingModels

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ferserve_server.app.overrides import Overrides
    from ferserve_server.app.services import Service
    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.models import Models
    from ferserve_server.domain.ports import Loader
    from ferserve_server.http2.registry import ConnectionRegistry
    from ferserve_server.workers.supervisor import WorkerSupervisor

log = structlog.get_logger(__name__)

START_ERRORS: Final = (
    ControlExposedError,
    ListenError,
    ModelKeyError,
    TokenFileError,
    TracingError,
    UpstreamFilesError,
)
"""Errors that keep a server from starting; their texts say what to change."""


MAX_METRICS_CONNECTIONS: Final = 64
"""Maximum number of connections to /metrics, because each has a thread while it is open."""

MAX_METRICS_CONNECTIONS_PER_ADDRESS: Final = 16
"""Maximum number of connections to /metrics from one address."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Represents a running server.

    Attributes:
        port: Port of the gRPC service, or None if it listens on a Unix-domain socket.
        http_port: Port of JSON over HTTP, or None.
        metrics_port: Port of /metrics, or None.
        control_port: Port of control calls' own address, or None.
        drain: Drains all processes; returns whether all accepted calls were answered in time.
        stop_loading: Ends loads at the next checkpoint; call it before `drain`.
        workers: The worker processes, or None if there is only this one.
    """

    port: int | None
    http_port: int | None
    metrics_port: int | None
    control_port: int | None
    drain: Callable[[], asyncio.Future[bool]]
    stop_loading: Callable[[], None] = lambda: None
    workers: WorkerSupervisor | None = None


def run(
    settings: Settings,
    loader: Loader | None,
    stop_loading: Callable[[], None] = lambda: None,
    overrides: Overrides = NO_OVERRIDES,
) -> int:
    """Serves until SIGTERM or SIGINT, and drains. Main thread only.

    Args:
        settings: The settings.
        loader: Loads versions; None if the models run in a model tier.
        stop_loading: Ends the running load, and all later ones; called when a stop begins.
        overrides: Rules that benchmarks replace.

    Returns:
        The exit code: 0 if every accepted call was answered, 1 if the drain ran out of time.

    Raises:
        ControlExposedError, ListenError, ModelKeyError, TokenFileError, TracingError, UpstreamFilesError: See
            `START_ERRORS`.
    """
    return uvloop.run(_serve(settings, loader, stop_loading, overrides))


async def _serve(
    settings: Settings, loader: Loader | None, stop_loading: Callable[[], None], overrides: Overrides
) -> int:
    serving = asyncio.current_task()
    starting = True

    def on_stop() -> None:
        stop_loading()
        if starting and serving is not None:
            serving.cancel()

    signals = StopSignals(settings.server.lame_duck_s + settings.server.drain_timeout_s, on_stop)
    signals.install()
    try:
        async with running_server(settings, loader, overrides) as server:
            starting = False
            freeze_startup_objects()
            await signals.requested.wait()
            server.stop_loading()
            if not await server.drain():
                return 1
            signals.exit_code = 0
            return 0
    except asyncio.CancelledError:
        if not signals.requested.is_set():
            raise
        return 0  # no call was accepted yet


@contextlib.asynccontextmanager
async def running_server(
    settings: Settings, loader: Loader | None, overrides: Overrides = NO_OVERRIDES
) -> AsyncIterator[RunningServer]:
    """Starts a server; on exit it is stopped, drained or not.

    It listens before the models are loaded: health says NOT_SERVING and calls get MODEL_NOT_READY until they are.

    Args:
        settings: The settings.
        loader: Loads versions; None if the models run in a model tier, which the settings then name.
        overrides: Rules that tests and benchmarks replace.
    """
    settings = settings.replace(**_addresses(settings))
    check_exposure(
        settings.control,
        tls=settings.tls.tls_cert_file is not None,
        addresses=(settings.server.listen, settings.http.http_listen),
    )
    descriptor_limit = raise_descriptor_limit()
    clock = MonotonicClock()
    recorder = PrometheusRecorder()
    recorder.set(metrics.BUILD_INFO, 1, __version__)
    recorder.follow(metrics.LOG_LINES_DROPPED, dropped_line_count)
    merged = MergedRegistry(recorder.registry)
    statistics = Statistics()
    changed = asyncio.Event()
    workers: WorkerSupervisor | None = None

    def on_change() -> None:
        changed.set()
        if workers is not None:
            workers.state_changed()

    async def sync() -> None:
        if workers is not None:
            await workers.sync()

    async with contextlib.AsyncExitStack() as stack:
        tracer = stack.enter_context(opened_tracer(os.environ, __version__))
        manager = (
            None
            if loader is None
            else build_manager(settings, loader, clock, recorder, statistics, on_change, overrides, tracer=tracer)
        )
        upstream = running_upstream(settings, clock, recorder, statistics, on_change, overrides, tracer)
        models: Models = await stack.enter_async_context(upstream) if manager is None else manager
        vision = build_vision(settings, recorder, tracer)
        stack.callback(vision.close)
        broadcasting = BroadcastingModels(models, sync)
        service = build_service(settings, broadcasting, vision, statistics, recorder, clock, tracer)
        metrics_port = _listen_metrics(settings, merged, recorder, stack)
        stack.push_async_callback(close_models, manager)
        await service.health.report(ready=False)
        # Separate stacks, so that a drain can close them, entered side by side.
        main = await stack.enter_async_context(contextlib.AsyncExitStack())
        port = None
        if settings.server.processes == 1:
            port = await main.enter_async_context(service.listening(settings, clock.now))
        others = await stack.enter_async_context(contextlib.AsyncExitStack())
        http_port = await _listen_http(settings, service, models, recorder, clock, descriptor_limit, others)
        control_port = await others.enter_async_context(
            listening_control(
                settings.control.control_listen,
                service.own_models,
                service.limits,
                service.interop.control_handlers,
                service.tls,
            )
        )
        stack.enter_context(
            background(
                "health", lambda: follow_health(models, service.health, changed), recorder.background_failed
            )
        )
        if settings.server.processes > 1:
            chosen, own, sockets, port = await _bind_for_several(settings, service, clock, main)
            running = running_workers(chosen, own, models, statistics, recorder, merged, overrides)
            workers, place = await stack.enter_async_context(running)
            on_change()  # a control call may have arrived while they started
            # After the workers, because connections accepted earlier stay here.
            main.enter_context(accepting(sockets, place))
        log.info(
            "listening",
            port=port,
            address=settings.server.listen,
            http_port=http_port,
            http_address=settings.http.http_listen,
            page=_page_url(settings, http_port),
            metrics_port=metrics_port,
            metrics_address=settings.server.metrics_listen,
            control_port=control_port,
            control_address=settings.control.control_listen,
            control_on_main=settings.control.control_on_main,
            tls=settings.tls.tls_cert_file is not None,
            processes=settings.server.processes,
            upstream=settings.upstream.upstream,
            version=__version__,
        )
        stack.enter_context(running_model_tasks(manager, settings, recorder.background_failed))

        async def stop() -> None:
            await asyncio.gather(main.aclose(), others.aclose())

        yield RunningServer(
            port,
            http_port,
            metrics_port,
            control_port,
            lambda: asyncio.ensure_future(_drain(settings, service, workers, stop)),
            manager.stop_loading if manager is not None else lambda: None,
            workers,
        )


async def _bind_for_several(
    settings: Settings, service: Service, clock: MonotonicClock, stack: contextlib.AsyncExitStack
) -> tuple[Settings, ConnectionRegistry | None, list[socket.socket], int | None]:
    """Binds the address that several processes share until the stack is closed.

    Returns:
        The settings of the worker processes; the server of connections in this process and its listening sockets,
        None and no sockets where workers listen themselves, as grpcio's server has to; the port.
    """
    if settings.server.grpc_server == "grpcio":
        reserved = stack.enter_context(ReservedPort(settings.server.listen, "--listen"))
        return settings.replace(listen=reserved.address), None, [], reserved.port
    own = await stack.enter_async_context(service.connections(settings, clock.now))
    sockets = stack.enter_context(bound(settings.server.listen, "--listen"))
    return settings, own, sockets, port_of(sockets)


def _addresses(settings: Settings) -> dict[str, str]:
    """Completes the addresses that follow the host of `listen`."""
    addresses = {"http_listen": settings.http.http_listen, "metrics_listen": settings.server.metrics_listen}
    sibling_address(settings.server.listen, settings.server.listen, "--listen")
    return {
        name: sibling_address(address, settings.server.listen, f"--{name.replace('_', '-')}")
        for name, address in addresses.items()
        if address != "off"
    }


def _page_url(settings: Settings, http_port: int | None) -> str | None:
    """Returns the URL of the web page on this machine, or None if there is no page."""
    if http_port is None or not settings.http.page:
        return None
    return f"{'https' if settings.tls.tls_cert_file else 'http'}://localhost:{http_port}/"


def _listen_metrics(
    settings: Settings, registry: MergedRegistry, recorder: PrometheusRecorder, stack: contextlib.AsyncExitStack
) -> int | None:
    """Serves /metrics, if the settings ask for it, until the stack is closed; returns the port."""
    if settings.server.metrics_listen == "off":
        return None
    limiter = ConnectionLimiter(MAX_METRICS_CONNECTIONS, MAX_METRICS_CONNECTIONS_PER_ADDRESS)
    _record_connections("metrics", limiter, recorder)
    if settings.server.metrics_listen.startswith("unix:"):
        raise ListenError(
            f"cannot listen on {settings.server.metrics_listen!r}: metrics need HOST:PORT; "
            "choose another with --metrics-listen"
        )
    sockets = stack.enter_context(bound(settings.server.metrics_listen, "--metrics-listen"))
    return stack.enter_context(MetricsServer(registry, sockets, limiter)).port


def _record_connections(port: str, limiter: ConnectionLimiter, recorder: PrometheusRecorder) -> None:
    recorder.read(metrics.CONNECTIONS, lambda: limiter.open_count, port)
    recorder.follow(metrics.CONNECTIONS_REJECTED, lambda: limiter.rejected_count, port)


async def _listen_http(
    settings: Settings,
    service: Service,
    models: Models,
    recorder: PrometheusRecorder,
    clock: MonotonicClock,
    descriptor_limit: int,
    stack: contextlib.AsyncExitStack,
) -> int | None:
    """Serves HTTP, if the settings ask for it, until the stack is closed; returns the port."""
    if settings.http.http_listen == "off":
        return None
    # Imported here, because servers without it need not spend 7 MiB and 0.5 s on the library.
    from ferserve_server.http.listener import listening_http  # noqa: PLC0415
    from ferserve_server.http.origins import OriginPolicy  # noqa: PLC0415
    from ferserve_server.http.server import HttpOptions, build_http  # noqa: PLC0415

    application = build_http(
        service.calls,
        service.analyze,
        service.emotion,
        models,
        service.interop.open_inference,
        service.interop.repository,
        service.health,
        limits=service.limits,
        options=HttpOptions(
            default_model="" if settings.upstream.upstream else settings.models.default_model,
            body_timeout_s=settings.http.http_body_timeout_s,
            detection=settings.detection.options,
            origins=OriginPolicy(settings.http.http_origins),
            page=settings.http.page,
        ),
        clock=clock,
    )
    budget = connection_budget(settings.http.max_http_connections, descriptor_limit)
    limiter = ConnectionLimiter(budget, settings.http.max_http_connections_per_address)
    _record_connections("http", limiter, recorder)
    context = None if service.tls is None else service.tls.context()
    listening = listening_http(
        application,
        settings.http.http_listen,
        context,
        limiter,
        max_header_bytes=settings.limits.max_metadata_bytes,
    )
    return await stack.enter_async_context(listening)


async def _drain(
    settings: Settings, service: Service, workers: WorkerSupervisor | None, stop: Callable[[], Awaitable[None]]
) -> bool:
    """Drains all processes at once; returns whether all accepted calls were answered in time."""
    log.info("draining", timeout_s=settings.server.drain_timeout_s)
    ending: Awaitable[bool] = asyncio.ensure_future(_drain_workers(settings, workers))

    async def stop_last() -> None:
        # Clients that connect while worker processes drain get the draining status here.
        await ending
        await stop()

    draining = [drain(settings, service.health, service.calls, stop_last), ending]
    if not all(await asyncio.gather(*draining)):
        return False
    log.info("drained")
    return True


async def _drain_workers(settings: Settings, workers: WorkerSupervisor | None) -> bool:
    if workers is None:
        return True
    return await workers.drain(settings.server.lame_duck_s + settings.server.drain_timeout_s + DRAIN_SLACK_S)
