"""Builds the worker processes, in the primary process."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from ferserve_server.backends.processor import cpu_count
from ferserve_server.domain import metrics
from ferserve_server.interop.statistics import COUNTED, add_counts, answer_counts
from ferserve_server.runtime.addresses import ListenError
from ferserve_server.telemetry.logging import chosen_format
from ferserve_server.workers.connection_passing import balanced_primary_share, worker_for_next
from ferserve_server.workers.process import WorkerPlan, WorkerStartError
from ferserve_server.workers.supervisor import WorkerSupervisor
from ferserve_vision.crop import to_model_inputs

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Hashable

    from ferserve_server.app.overrides import Overrides
    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.models import Models
    from ferserve_server.interop.statistics import Statistics
    from ferserve_server.telemetry.aggregation import MergedRegistry
    from ferserve_server.telemetry.recorder import PrometheusRecorder
    from ferserve_server.workers.connection_passing import Intake
    from ferserve_server.workers.json_codec import Json

_MODULE: Final = "ferserve_server.app.worker_main"


@contextlib.asynccontextmanager
async def running_workers(
    settings: Settings,
    own: Intake | None,
    models: Models,
    statistics: Statistics,
    recorder: PrometheusRecorder,
    merged: MergedRegistry,
    overrides: Overrides,
) -> AsyncIterator[tuple[WorkerSupervisor, Callable[[socket.socket], None]]]:
    """Starts the worker processes and yields them once all accept calls; on exit they end.

    Args:
        settings: The settings; with `own` None, each worker process listens at `listen` itself.
        own: Serves the connections of this process.
        models: The models.
        statistics: The counts of the service.
        recorder: Records the metrics of this process.
        merged: Those of all.
        overrides: The primary process's share of the connections, if it is not to be computed.

    Yields:
        The processes, and what gives a connection to one of them, or to this one.

    Raises:
        ListenError: A worker process cannot accept calls.
    """
    count = settings.server.processes if own is None else settings.server.processes - 1
    share = overrides.primary_share
    if share is None:
        share = balanced_primary_share(settings.server.processes, cpu_count())

    def place(accepted: socket.socket) -> None:
        if own is None:
            accepted.close()
            return
        accepting_workers = workers.accepting_workers
        index = worker_for_next(own.count, [worker.connection_count for worker in accepting_workers], share)
        if index is None or not accepting_workers[index].pass_connection(accepted):
            own.accept(accepted)

    plan = WorkerPlan(
        _MODULE,
        settings_of_one_worker(settings).model_dump(mode="json"),
        settings.batching.max_queue_mib * 2**20,
        models.acquire,
        to_model_inputs,
        place,
    )

    def on_worker_ended(process: Hashable) -> None:
        merged.ended(process)
        recorder.count(metrics.WORKER_RESTARTS)

    def add_series(process: Hashable, series: Json) -> None:
        merged.update(process, series)

    workers = WorkerSupervisor(
        plan,
        count,
        models,
        default_model=settings.models.default_model,
        notification_handlers={"metrics": add_series, COUNTED: lambda _, rows: add_counts(statistics, rows)},
        request_handlers={COUNTED: partial(answer_counts, statistics)},
        on_worker_ended=on_worker_ended,
        count_failure=recorder.background_failed,
    )
    recorder.read(metrics.WORKER_PROCESSES, lambda: workers.running_count)
    try:
        await workers.start()
        yield workers, place
    except WorkerStartError as error:
        raise ListenError(str(error)) from error
    finally:
        await workers.close()


def settings_of_one_worker(settings: Settings) -> Settings:
    """Derives the settings of one worker process: threads and the picture queue are divided among all.

    Each process gets twice its share of the threads, at most all: pictures arrive unevenly, and with only its
    share a process that has most of them leaves cores idle. The primary process keeps all of them, for HTTP and
    for setups in which it has most connections.
    """
    count = settings.server.processes
    threads = settings.detection.vision_threads or cpu_count()
    return settings.replace(
        log_format=chosen_format(settings.log.log_format),
        vision_threads=min(threads, max(1, 2 * threads // count)),
        max_queue_images=max(settings.limits.max_images_per_request, settings.limits.max_queue_images // count),
        max_queue_image_mib=max(1, settings.limits.max_queue_image_mib // count),
        max_decode_mib=max(16, settings.limits.max_decode_mib // count),
    )
