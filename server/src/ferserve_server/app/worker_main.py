"""Runs a worker process: accepts calls, decodes pictures, finds faces, and has the primary process score them.

It is started by `workers.supervisor` with the file descriptors of two channels: one for messages with the primary
process, the other for passed connections. It ends when the first closes, and never imports TensorFlow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvloop

from ferserve_server import __version__
from ferserve_server.app.drain import drain
from ferserve_server.app.services import build_service, build_vision, follow_health, native_endpoint
from ferserve_server.config.settings import Settings
from ferserve_server.interop.statistics import RemoteStatistics
from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import call_when_parent_ends, die_with_parent, ignore_stop_signals
from ferserve_server.ipc.framed_channel import MESSAGE_BYTES
from ferserve_server.ipc.shared_memory import BlockAllocator, SharedBlock
from ferserve_server.runtime.addresses import ListenError
from ferserve_server.runtime.background_tasks import background
from ferserve_server.runtime.clock import MonotonicClock
from ferserve_server.runtime.garbage_collection import freeze_startup_objects
from ferserve_server.runtime.process_output import open_child_output
from ferserve_server.services.control_access import TokenFileError
from ferserve_server.telemetry.aggregation import write_series
from ferserve_server.telemetry.logging import set_up_logging
from ferserve_server.telemetry.otlp import TracingError, opened_tracer
from ferserve_server.telemetry.recorder import PrometheusRecorder
from ferserve_server.workers import connection_passing
from ferserve_server.workers.process import layout_of
from ferserve_server.workers.remote_models import RemoteModels
from ferserve_server.workers.rpc_channel import RpcChannel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ferserve_server.workers.json_codec import Json

log = structlog.get_logger(__name__)

_METRICS_INTERVAL_S: Final = 0.25
"""Interval at which counts are sent to the primary process, in seconds; a killed process loses newer counts."""


def main() -> None:
    """Runs until the channel closes."""
    ignore_stop_signals()
    die_with_parent()
    if "framed" in sys.argv[3:]:
        open_child_output()
    channel = Channel.from_fd(int(sys.argv[1]), MESSAGE_BYTES)
    connection_channel = Channel.from_fd(int(sys.argv[2]), connection_passing.MESSAGE_BYTES)
    try:
        hello, (memory_fd,) = channel.receive_with_fds()
    except ChannelClosedError:
        return
    # Independent of the primary process's fate, and of how busy the event loop here is.
    watch = threading.Thread(target=call_when_parent_ends, args=(channel, lambda: os._exit(0)), daemon=True)
    watch.start()
    memory_bytes = json.loads(hello)["memory_bytes"]
    block = SharedBlock(memory_fd, layout_of(memory_bytes))
    memory = block.faces(0, (memory_bytes,))
    block.close()
    uvloop.run(_serve(channel, connection_channel, memory))
    # gRPC keeps native threads; see `cli`.
    os._exit(0)


async def _serve(channel: Channel, connection_channel: Channel, memory: npt.NDArray[np.uint8]) -> None:
    loop = asyncio.get_running_loop()
    begin: asyncio.Future[dict[str, Any]] = loop.create_future()
    models_changed, drain_requested, primary_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    recorder, clock = PrometheusRecorder(), MonotonicClock()

    def apply_state(form: Json) -> None:
        models.apply_state(form)
        models_changed.set()

    rpc = RpcChannel(
        channel,
        score_message=lambda message: models.score_message(message),  # noqa: PLW0108 - made below
        notification_handlers={
            "begin": begin.set_result,
            "state": apply_state,
            "drain": lambda _: drain_requested.set(),
        },
        request_handlers={"sync": _acknowledge_sync},
        closed=primary_ended.set,
    )
    models = RemoteModels(
        memory,
        BlockAllocator(len(memory)),
        post=rpc.post,
        call=rpc.call,
        clock=clock,
        rejected=recorder.rejected,
        cancelled=recorder.cancelled,
    )
    plan = await begin
    settings = Settings.model_validate(plan["settings"])
    models.process_count = settings.server.processes
    apply_state(plan["state"])
    set_up_logging(settings.log.log_level, settings.log.log_format)
    structlog.contextvars.bind_contextvars(pid=os.getpid())
    try:
        await _answer_calls(settings, models, rpc, connection_channel, recorder, models_changed, drain_requested)
    except (ListenError, TokenFileError, TracingError) as error:
        rpc.notify("failed", str(error))
    await rpc.flush()
    await primary_ended.wait()


async def _acknowledge_sync(_: object) -> None:
    """Acknowledges notifications: they arrive in order, so those before this request are applied."""


async def _answer_calls(
    settings: Settings,
    models: RemoteModels,
    rpc: RpcChannel,
    connection_channel: Channel,
    recorder: PrometheusRecorder,
    models_changed: asyncio.Event,
    drain_requested: asyncio.Event,
) -> None:
    """Answers calls until a drain is requested, then drains."""
    clock = MonotonicClock()
    statistics = RemoteStatistics(rpc.notify, rpc.call)
    reported: list[Any] = []

    def report_counts() -> None:
        statistics.flush()
        series = write_series(recorder.registry)
        if series != reported:
            reported[:] = series
            rpc.notify("metrics", series)

    async def report_periodically() -> None:
        while True:
            await asyncio.sleep(_METRICS_INTERVAL_S)
            report_counts()

    async with contextlib.AsyncExitStack() as stack:
        tracing = stack.enter_context(contextlib.ExitStack())
        tracer = tracing.enter_context(opened_tracer(os.environ, __version__))
        vision = build_vision(settings, recorder, tracer)
        stack.callback(vision.close)
        service = build_service(settings, models, vision, statistics, recorder, clock, tracer)
        await service.health.report(ready=models.default_ready)
        stack.enter_context(
            background(
                "health",
                lambda: follow_health(models, service.health, models_changed),
                recorder.background_failed,
            )
        )
        stack.enter_context(background("metrics", report_periodically, recorder.background_failed))
        # A separate stack, so that a drain can close it.
        main = await stack.enter_async_context(contextlib.AsyncExitStack())
        if settings.server.grpc_server == "grpcio":
            listening = service.listening(settings, clock.now, [], share_port=True)
            endpoint = await main.enter_async_context(listening)
        else:
            own = await main.enter_async_context(service.connections(settings, clock.now))
            receiver = connection_passing.ConnectionReceiver(
                connection_channel, own, lambda *counts: rpc.notify("connections", counts)
            )
            main.callback(receiver.close)
            endpoint = native_endpoint(None, own)
        freeze_startup_objects()
        rpc.notify("listening", None)
        await drain_requested.wait()
        in_time = await drain(settings, service.health, service.calls, [endpoint], main.aclose)
        report_counts()
        tracing.close()  # now, because the primary process may end as soon as it knows
        rpc.notify("drained", in_time)
        await rpc.flush()


if __name__ == "__main__":
    main()
