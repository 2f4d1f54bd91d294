"""Builds a server and starts and stops its parts in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from ferserve_server import __version__
from ferserve_server.app.drain import DRAIN_SLACK_S, drain
from ferserve_server.app.endpoints import (
    bind_grpc,
    bind_http,
    complete_addresses,
    listen_metrics,
    page_url,
    prepare_http,
)
from ferserve_server.app.models import build_manager, close_models, running_model_tasks
from ferserve_server.app.overrides import NO_OVERRIDES
from ferserve_server.app.readiness import Readiness
from ferserve_server.app.services import build_service, build_vision, native_endpoint
from ferserve_server.app.signals import StopSignals
from ferserve_server.app.upstream import running_upstream
from ferserve_server.app.workers import running_workers
from ferserve_server.domain import metrics
from ferserve_server.domain.errors import ModelKeyError
from ferserve_server.grpc.control_server import listening_control
from ferserve_server.interop.statistics import Statistics
from ferserve_server.runtime.addresses import ListenError, ReservedPort, port_of
from ferserve_server.runtime.background_tasks import background
from ferserve_server.runtime.clock import MonotonicClock
from ferserve_server.runtime.connection_limits import raise_descriptor_limit
from ferserve_server.runtime.endpoint import Endpoint
from ferserve_server.runtime.garbage_collection import freeze_startup_objects
from ferserve_server.runtime.listener import accepting
from ferserve_server.runtime.process_output import dropped_line_count
from ferserve_server.services.control_access import ControlExposedError, TokenFileError, check_exposure
from ferserve_server.telemetry.aggregation import MergedRegistry
from ferserve_server.telemetry.otlp import TracingError, opened_tracer
from ferserve_server.telemetry.recorder import PrometheusRecorder
from ferserve_server.upstream.channel import UpstreamFilesError
from ferserve_server.workers.supervisor import BroadcastingModels

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from ferserve_server.app.overrides import Overrides
    from ferserve_server.app.services import Service
    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.models import Models
    from ferserve_server.domain.ports import Loader
    from ferserve_server.workers.supervisor import WorkerSupervisor

log = structlog.get_logger(__name__)

RunningWorkers = contextlib.AbstractAsyncContextManager["tuple[WorkerSupervisor, Callable[[socket.socket], None]]"]

START_ERRORS: Final = (
    ControlExposedError,
    ListenError,
    ModelKeyError,
    TokenFileError,
    TracingError,
    UpstreamFilesError,
)
"""Errors that keep a server from starting; their texts say what to change."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Represents a running server.

    Attributes:
        port: Port of the gRPC service, or None if it listens on a Unix-domain socket.
        http_port: Port of JSON over HTTP, or None.
        metrics_port: Port of /metrics, or None.
        control_port: Port of control calls' own address, or None.
        drain: Drains all processes; returns whether all accepted calls were answered in time.
        reload: Reads TLS files and the control token again if they have changed.
        stop_loading: Ends loads at the next checkpoint; call it before `drain`.
        workers: The worker processes, or None if there is only this one.
    """

    port: int | None
    http_port: int | None
    metrics_port: int | None
    control_port: int | None
    drain: Callable[[], asyncio.Future[bool]]
    reload: Callable[[], None]
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
            signals.on_reload = server.reload
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

    It listens when a model answers; with `listen_before_ready` at once, and until then calls get MODEL_NOT_READY.
    Metrics and control calls are there from the start.

    Args:
        settings: The settings.
        loader: Loads versions; None if the models run in a model tier, which the settings then name.
        overrides: Rules that tests and benchmarks replace.
    """
    settings = complete_addresses(settings)
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
    readiness = Readiness(at_once=settings.server.listen_before_ready, looked=loader is None)
    on_change = readiness.models_changed

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
        broadcasting = BroadcastingModels(models, readiness.sync)
        service = build_service(settings, broadcasting, vision, statistics, recorder, clock, tracer)
        metrics_port = listen_metrics(settings, merged, recorder, service.health, stack)
        stack.push_async_callback(close_models, manager)
        await service.health.report(ready=False)
        addresses = stack.enter_context(contextlib.ExitStack())
        grpc_sockets, http_sockets = bind_grpc(settings, addresses), bind_http(settings, addresses)
        # Separate stacks, so that a drain can close them, entered side by side.
        main = await stack.enter_async_context(contextlib.AsyncExitStack())
        others = await stack.enter_async_context(contextlib.AsyncExitStack())
        control = await others.enter_async_context(
            listening_control(
                settings.control.control_listen,
                service.own_models,
                service.limits,
                service.interop.control_handlers,
                service.control_tls,
            )
        )
        http_listening = prepare_http(settings, http_sockets, service, models, recorder, clock, descriptor_limit)
        follow = partial(readiness.follow, models, service.health)
        stack.enter_context(background("health", follow, recorder.background_failed))
        stack.enter_context(
            running_model_tasks(manager, settings, recorder.background_failed, readiness.first_look_ended)
        )
        if not settings.server.listen_before_ready:
            log.info(
                "waiting for a model",
                metrics_port=metrics_port,
                metrics_address=settings.server.metrics_listen,
                control_port=control.port,
                control_address=settings.control.control_listen,
            )
        if settings.server.processes == 1:
            await readiness.wait()
            service_endpoint = await main.enter_async_context(service.listening(settings, clock.now, grpc_sockets))
        else:
            run = partial(
                running_workers,
                models=models,
                statistics=statistics,
                recorder=recorder,
                merged=merged,
                overrides=overrides,
            )
            service_endpoint = await _listen_with_workers(
                settings, service, clock, grpc_sockets, run, readiness, stack, main
            )
        http = await others.enter_async_context(http_listening)
        log.info(
            "listening",
            port=service_endpoint.port,
            address=settings.server.listen,
            http_port=http.port,
            http_address=settings.http.http_listen,
            page=page_url(settings, http.port),
            metrics_port=metrics_port,
            metrics_address=settings.server.metrics_listen,
            control_port=control.port,
            control_address=settings.control.control_listen,
            control_on_main=settings.control.control_on_main,
            tls=settings.tls.tls_cert_file is not None,
            processes=settings.server.processes,
            upstream=settings.upstream.upstream,
            version=__version__,
        )

        async def stop() -> None:
            await asyncio.gather(main.aclose(), others.aclose())

        endpoints = (service_endpoint, http)
        yield RunningServer(
            service_endpoint.port,
            http.port,
            metrics_port,
            control.port,
            lambda: asyncio.ensure_future(_drain(settings, service, readiness.workers, endpoints, stop)),
            service.reload,
            manager.stop_loading if manager is not None else lambda: None,
            readiness.workers,
        )


async def _listen_with_workers(  # noqa: PLR0913, PLR0917 - parts of one start
    settings: Settings,
    service: Service,
    clock: MonotonicClock,
    sockets: list[socket.socket],
    run: Callable[..., RunningWorkers],
    readiness: Readiness,
    stack: contextlib.AsyncExitStack,
    main: contextlib.AsyncExitStack,
) -> Endpoint:
    """Starts worker processes, and listens on the address that they share with this one.

    Args:
        settings: The settings.
        service: The services.
        clock: The time.
        sockets: Bound to the address; none with gRPC's server.
        run: Runs worker processes with settings, beside a registry of connections in this process or None.
        readiness: When to listen.
        stack: Ends the worker processes.
        main: Closes what listens.
    """
    if settings.server.grpc_server == "grpcio":  # workers listen themselves, as that server has to
        reserved = main.enter_context(ReservedPort(settings.server.listen, "--listen"))
        await readiness.wait()
        chosen = settings.replace(listen=reserved.address)
        readiness.workers, _ = await stack.enter_async_context(run(chosen, None))
        readiness.models_changed()  # while they started
        return Endpoint(reserved.port)
    own = await main.enter_async_context(service.connections(settings, clock.now))
    readiness.workers, place = await stack.enter_async_context(run(settings, own))
    readiness.models_changed()  # while they started
    await readiness.wait()
    # After the workers, because connections accepted earlier stay here.
    return native_endpoint(port_of(sockets), own, main.enter_context(accepting(sockets, place)))


async def _drain(
    settings: Settings,
    service: Service,
    workers: WorkerSupervisor | None,
    endpoints: Sequence[Endpoint],
    stop: Callable[[], Awaitable[None]],
) -> bool:
    """Drains all processes at once; returns whether all accepted calls were answered in time."""
    log.info("draining", timeout_s=settings.server.drain_timeout_s)
    ending: Awaitable[bool] = asyncio.ensure_future(_drain_workers(settings, workers))

    async def stop_last() -> None:
        # Connections that a worker process did not take before it ended come back here.
        await ending
        await stop()

    draining = [drain(settings, service.health, service.calls, endpoints, stop_last), ending]
    if not all(await asyncio.gather(*draining)):
        return False
    log.info("drained")
    return True


async def _drain_workers(settings: Settings, workers: WorkerSupervisor | None) -> bool:
    if workers is None:
        return True
    return await workers.drain(settings.server.lame_duck_s + settings.server.drain_timeout_s + DRAIN_SLACK_S)
