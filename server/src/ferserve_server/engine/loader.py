"""Loads versions into engine processes of their own.

A version that runs in an engine process, in the place of one that runs here.

Loads versions into processes of their own.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ferserve_server.engine.process import EngineProcess
from ferserve_server.engine.supervisor import Engine, Version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, Precision, ServableId
    from ferserve_server.engine.process import EngineOptions


class EngineServable:
    """Implements `domain.ports.Servable` on an engine process; see there for the methods, all of which block.

    `predict` is for trials: it runs beside the batches of callers, which go through `runner.EngineExecutor`, and
    leaves the processor to them.

    Attributes:
        engine: What runs it.
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
            EngineLostError: Its process ended while it answers callers, and did not come back.
            ModelRejectedError: ENGINE_LOST, the process ended before it answered any.
            EngineRaisedError: What the engine raised.
        """
        return self.engine.predict(self.handle, crops)

    def with_precision(self, precision: Precision) -> EngineServable:
        """Makes the same version in another precision, in the same process."""
        handle, executor_count = self.engine.with_precision(self.handle, precision)
        return EngineServable(self.engine, handle=handle, executor_count=executor_count, precision=precision)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Makes all executors warm."""
        self.engine.warm_executors(self.handle, bucket_sizes, thread_count)

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Makes ready for one `predict` beside the executors."""
        self.engine.reserve_session(self.handle, bucket_sizes)

    def close(self) -> None:
        """Gives its memory back: with the last servable of an engine its process ends."""
        if not self._closed:
            self._closed = True
            self.engine.close_handle(self.handle)


log = structlog.get_logger(__name__)


class EngineLoader:
    """Implements `domain.ports.Loader`; every version gets an engine process.

    Whoever makes it must `close` it. Thread-safety: `load` from any thread, one at a time; the rest any thread.
    """

    def __init__(self, options: EngineOptions, largest_batch: int) -> None:
        """Loads nothing yet; see `start`.

        Args:
            options: What every process is told.
            largest_batch: Rows of the largest batch.
        """
        self._options = options
        self._largest_batch = largest_batch
        self._lock = threading.Lock()
        self._ahead: EngineProcess | None = None
        self._processes: weakref.WeakSet[EngineProcess] = weakref.WeakSet()
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._closed = False

    def start(self) -> None:
        """Starts the process of the first version ahead: the engine comes up while the server does.

        Raises:
            OSError: The system cannot start another process.
        """
        self._ahead = self._new_process(gives_way=False)

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> EngineServable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: It may not be served, or its process ended (ENGINE_LOST).
            EngineRaisedError: What the engine raised.
            OSError: The system cannot start another process.
        """
        version = Version(servable_id, directory, description)
        engine = Engine(version, self._largest_batch, self._take_process, self._somebody_serves)
        with self._lock:
            self._engines.add(engine)
        return EngineServable(engine)

    def close(self) -> None:
        """Ends every process that is left, whatever it does. Blocking."""
        with self._lock:
            self._closed = True
            left = list(self._processes)
        for process in left:
            process.kill()
        for process in left:
            process.end()

    def _somebody_serves(self) -> bool:
        with self._lock:
            return any(engine.serving for engine in self._engines)

    def _take_process(self, gives_way: bool) -> EngineProcess:
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.runs:  # it may have waited for hours: no version is to blame
            log.warning("engine process ended before it was used", pid=ahead.pid, how=ahead.describe_end())
            ahead.end()
            ahead = None
        return ahead or self._new_process(gives_way=gives_way)

    def _new_process(self, *, gives_way: bool) -> EngineProcess:
        process = EngineProcess(replace(self._options, gives_way=gives_way))
        with self._lock:
            self._processes.add(process)
            closed = self._closed
        if closed:
            process.end()
        return process
