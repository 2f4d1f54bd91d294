"""Wiring of the front processes, in the process that owns the models."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.backends.processor import cpu_count
from ferserve_server.fronts.front_process import FrontPlan, FrontStartError
from ferserve_server.fronts.supervisor import Fronts
from ferserve_server.transport.addresses import ListenError, ReservedPort
from ferserve_server.transport.compat.shared_statistics import COUNTED, take_counted, tell_counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from ferserve_server.domain.models import Models
    from ferserve_server.domain.ports import Vision
    from ferserve_server.fronts.state_form import Json
    from ferserve_server.observability.merged import MergedRegistry
    from ferserve_server.observability.metrics import Metrics
    from ferserve_server.settings import Settings
    from ferserve_server.transport.compat.statistics import Statistics

_MODULE: Final = "ferserve_server.front"


@contextlib.asynccontextmanager
async def running_fronts(
    settings: Settings,
    models: Models,
    vision: Vision,
    statistics: Statistics,
    metrics: Metrics,
    merged: MergedRegistry,
) -> AsyncIterator[tuple[Fronts, int]]:
    """Starts the front processes, and yields them when all listen; on leaving they end.

    Yields:
        The processes and their port.

    Raises:
        ListenError: The address cannot be listened on.
    """
    with ReservedPort(settings.listen, "--listen") as reserved:
        plan = FrontPlan(
            _MODULE,
            settings_of_one_front(settings, reserved.address),
            settings.max_queue_mib * 2**20,
            models.acquire,
            vision.resize,
        )

        def gone(process: Hashable) -> None:
            merged.ended(process)
            metrics.front_restarts.inc()

        def take_series(process: Hashable, series: Json) -> None:
            merged.update(process, series)

        fronts = Fronts(
            plan,
            settings.processes,
            models,
            default_model=settings.default_model,
            news={"metrics": take_series, COUNTED: lambda _, rows: take_counted(statistics, rows)},
            questions={COUNTED: partial(tell_counts, statistics)},
            gone=gone,
        )
        metrics.front_processes.set_function(lambda: fronts.running_count)
        try:
            await fronts.start()
            yield fronts, reserved.port
        except FrontStartError as error:
            raise ListenError(str(error)) from error
        finally:
            await fronts.close()


def settings_of_one_front(settings: Settings, address: str) -> dict[str, Any]:
    """The settings of one front process: threads and the queue for pictures are divided among all.

    Of the threads each has twice its share, at most all: the kernel spreads connections as it happens, and with no
    more than its share a process that has most of them leaves cores idle.
    """
    count = settings.processes
    threads = settings.vision_threads or cpu_count()
    own = settings.model_copy(
        update={
            "listen": address,
            "vision_threads": min(threads, max(1, 2 * threads // count)),
            "max_queue_images": max(settings.max_images_per_request, settings.max_queue_images // count),
        }
    )
    return own.model_dump(mode="json")
