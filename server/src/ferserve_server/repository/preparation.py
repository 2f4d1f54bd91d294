"""Makes a servable out of a folder, or tells why not: verified, loaded, warmed and tried."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import GateFigures
from ferserve_server.repository.comparison import compare
from ferserve_server.repository.gate import check_golden, check_labels, read_golden, score_all, warm
from ferserve_server.repository.manifest import read_manifest, verify_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.repository.source import RepositorySource

_NICENESS: Final = 10
"""By this much the trial's thread yields to others: beside a busy thread of live traffic it gets a tenth of a core
(weights 110 to 1024 in Linux' scheduler)."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a version must show.

    Attributes:
        bucket_sizes: Batch sizes it is warmed at, rising.
        golden_tolerance: Largest difference from its golden scores, as a probability.
        latency_factor: How many times as long as the version in force a batch may take; 0: any.
    """

    bucket_sizes: tuple[int, ...]
    golden_tolerance: float
    latency_factor: float = 0.0


class VersionPreparer:
    """Loads on one thread and tries on another. Event loop only.

    Warming and trying run batches, the largest included. That is done on a thread of lower priority, which the
    threads of live traffic push aside. Loading is not: threads that an engine starts for good while it loads would
    inherit the priority.
    """

    def __init__(
        self,
        source: RepositorySource,
        loader: Loader,
        limits: GateLimits,
        *,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self._source = source
        self._loader = loader
        self._now = now
        self._trial = ThreadPoolExecutor(1, "trial", initializer=_lower_priority)

    async def prepare(self, servable_id: ServableId, in_force: Servable | None) -> tuple[Servable, GateFigures]:
        """Verifies, loads, warms and tries a version. Takes seconds; await one before the next.

        Args:
            servable_id: The version.
            in_force: The version that answers requests now, leased for as long as this takes; None if none does.

        Raises:
            ModelRejectedError: It may not be served.
            Exception: Whatever the engine raised.
        """
        directory = self._source.directory(servable_id)
        servable = await asyncio.to_thread(self._load, servable_id, directory, in_force)
        loop = asyncio.get_running_loop()
        figures = await loop.run_in_executor(self._trial, self._try, servable, directory, in_force)
        return servable, figures

    def close(self) -> None:
        """Lets the thread go, when it is done with what it has."""
        self._trial.shutdown(wait=False)

    def _load(self, servable_id: ServableId, directory: Path, in_force: Servable | None) -> Servable:
        manifest = read_manifest(directory)
        if (manifest.name, manifest.version) != (servable_id.name, servable_id.version):
            raise ModelRejectedError(
                "MANIFEST_MISMATCH", f"The manifest is that of {manifest.name}/{manifest.version}."
            )
        check_labels(manifest.description.labels, in_force.description.labels if in_force else None)
        verify_files(directory, manifest)
        return self._loader.load(servable_id, directory, manifest.description)

    def _try(self, servable: Servable, directory: Path, in_force: Servable | None) -> GateFigures:
        limits = self.limits
        try:
            warm(servable, limits.bucket_sizes)
            golden = read_golden(directory, servable.description.input)
            scores = score_all(servable, golden.faces, limits.bucket_sizes)
            difference = check_golden(scores, golden, limits.golden_tolerance)
            if in_force is None:
                return GateFigures(difference)
            comparison = compare(
                servable,
                in_force,
                golden.faces,
                scores,
                limits.bucket_sizes,
                latency_factor=limits.latency_factor,
                now=self._now,
            )
            return GateFigures(difference, comparison)
        except BaseException:
            servable.close()  # here, where no batch of it can be running
            raise


def _lower_priority() -> None:
    """Makes the calling thread yield to others. Linux counts the priority by thread, other systems by process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
