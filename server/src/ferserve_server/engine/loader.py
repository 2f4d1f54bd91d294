"""Loads versions into engine processes of their own.

`EngineServable` represents such a version in the server.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.engine.process import EngineProcess
from ferserve_server.engine.setup import Version
from ferserve_server.engine.step_limits import StepLimits
from ferserve_server.engine.supervisor import Engine, Spawning
from ferserve_server.runtime.cgroup import available_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import GoldenSet, ModelDescription, Precision, ServableId
    from ferserve_server.engine.process import EngineOptions


class EngineServable:
    """Implements `domain.ports.Servable` on an engine process; see there for the methods, all of which block.

    `predict` is for validation: it runs beside the batches of clients, which go through `executor.EngineExecutor`,
    and yields the processor to them.

    Attributes:
        engine: The engine that runs it.
        handle: Its number there.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        handle: int = 0,
        executor_count: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.engine = engine
        self.handle = handle
        self.id = engine.version.id
        self.description = engine.version.description
        self.executor_count = engine.executor_count if executor_count is None else executor_count
        self.precision = precision or engine.version.description.precision
        self._closed = False

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch.

        Raises:
            EngineLostError: Its process ended while it serves clients, and was not restarted.
            ModelRejectedError: ENGINE_LOST, the process ended before it answered any.
            EngineRaisedError: An exception of the engine.
        """
        return self.engine.predict(self.handle, crops)

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set in the engine process, so that this one unpacks nothing."""
        return self.engine.read_golden(directory)

    def with_precision(self, precision: Precision) -> EngineServable:
        """Makes the same version in another precision, in the same process."""
        handle, executor_count = self.engine.with_precision(self.handle, precision)
        return EngineServable(self.engine, handle=handle, executor_count=executor_count, precision=precision)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Warms all executors."""
        self.engine.warm_executors(self.handle, bucket_sizes, thread_count)

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Prepares a session for one `predict` beside the executors."""
        self.engine.reserve_session(self.handle, bucket_sizes)

    def close(self) -> None:
        """Frees its memory; with the last servable of an engine its process ends."""
        if not self._closed:
            self._closed = True
            self.engine.close_handle(self.handle)


log = structlog.get_logger(__name__)


_SHARE_OF_FREE_MEMORY: Final = 0.8
"""Maximum share of free memory that a loading engine process may take, because a version that allocates without
end must not make the system end another process."""


class EngineLoader:
    """Implements `domain.ports.Loader`; every version gets an engine process.

    The creator must `close` it. Thread-safety: `load` from any thread, one at a time; the rest any thread.
    """

    def __init__(
        self,
        options: EngineOptions,
        largest_batch: int,
        limits: StepLimits | None = None,
        *,
        standby_count: int = 0,
    ) -> None:
        """Creates a loader that has loaded nothing; see `start`.

        Args:
            options: Options of every process.
            largest_batch: Rows of the largest batch.
            limits: Limits of each step of loading; without a limit of memory it is four fifths of what is free
                when a process starts. None for the defaults.
            standby_count: Processes that are kept ready for each version in service, 0 or more.
        """
        self._options = options
        self._largest_batch = largest_batch
        self._limits = limits or StepLimits()
        self._standby_count = standby_count
        self._lock = threading.Lock()
        self._prestarted: EngineProcess | None = None
        self._processes: weakref.WeakSet[EngineProcess] = weakref.WeakSet()
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._loading: EngineProcess | None = None
        self._stopping = False
        self._closed = False

    def start(self) -> None:
        """Starts the process of the first version early: the engine comes up while the server does.

        Raises:
            OSError: The system cannot start another process.
        """
        self._prestarted = self._new_process(low_priority=False)

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> EngineServable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: It may not be served, or its process ended (ENGINE_LOST).
            EngineRaisedError: An exception of the engine.
            OSError: The system cannot start another process.
        """
        version = Version(servable_id, directory, description)
        low_priority = self._any_serving()
        process = self._take_process(low_priority)
        with self._lock:
            self._loading = process
            stopping = self._stopping
        if stopping:
            process.kill()
        spawning = Spawning(self._start_process, self._any_serving, self._standby_count)
        engine = Engine(version, self._largest_batch, process, spawning, low_priority=low_priority)
        with self._lock:
            self._engines.add(engine)
        return EngineServable(engine)

    def stop_loading(self) -> None:
        """Ends the running load, and all later ones, at any point. Does not wait; any thread."""
        with self._lock:
            self._stopping = True
            serving = [engine.process for engine in self._engines if engine.serving]
            others = [
                process for process in (self._loading, self._prestarted) if process and process not in serving
            ]
        for process in others:
            process.kill()

    def kill(self) -> None:
        """Kills every process at once, regardless of its work. Does not wait; any thread."""
        with self._lock:
            self._closed = True
            left = list(self._processes)
        for process in left:
            process.kill()

    def close(self) -> None:
        """Kills every remaining process, regardless of its work. Blocking."""
        self.kill()
        with self._lock:
            left = list(self._processes)
        for process in left:
            process.end()

    def _any_serving(self) -> bool:
        with self._lock:
            return any(engine.serving for engine in self._engines)

    def _start_process(self, low_priority: bool) -> EngineProcess:
        return self._new_process(low_priority=low_priority)

    def _take_process(self, low_priority: bool) -> EngineProcess:
        with self._lock:
            prestarted, self._prestarted = self._prestarted, None
        if prestarted is not None and not prestarted.runs:  # it may have waited for hours: no version is to blame
            log.warning(
                "engine process ended before it was used", pid=prestarted.pid, how=prestarted.describe_end()
            )
            prestarted.end()
            prestarted = None
        return prestarted or self._new_process(low_priority=low_priority)

    def _new_process(self, *, low_priority: bool) -> EngineProcess:
        limits = self._limits
        if not limits.memory_bytes:
            limits = replace(limits, memory_bytes=int(_SHARE_OF_FREE_MEMORY * available_bytes()))
        process = EngineProcess(replace(self._options, low_priority=low_priority), limits)
        with self._lock:
            self._processes.add(process)
            closed = self._closed
        if closed:
            process.kill()
        return process
