"""Loads versions into processes of their own."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.backends.cgroup import available_bytes
from ferserve_server.backends.engine.engine import Engine, Spawning
from ferserve_server.backends.engine.process import EngineProcess
from ferserve_server.backends.engine.servable import EngineServable
from ferserve_server.backends.engine.setup import Version
from ferserve_server.backends.engine.step_limits import StepLimits

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.backends.engine.options import EngineOptions
    from ferserve_server.domain.servable import ModelDescription, ServableId

log = structlog.get_logger(__name__)


_SHARE_OF_FREE_MEMORY: Final = 0.8
"""Share of it that an engine process may take while it loads: a version that allocates without end must not make
the system end another process."""


class EngineLoader:
    """Implements `domain.ports.Loader`; every version gets an engine process.

    Whoever makes it must `close` it. Thread-safety: `load` from any thread, one at a time; the rest any thread.
    """

    def __init__(
        self,
        options: EngineOptions,
        largest_batch: int,
        limits: StepLimits | None = None,
        *,
        standby_count: int = 0,
    ) -> None:
        """Loads nothing yet; see `start`.

        Args:
            options: What every process is told.
            largest_batch: Rows of the largest batch.
            limits: What each step of loading may take; without a limit of memory it is four fifths of what is free
                when a process starts. None for the defaults.
            standby_count: Processes that are kept ready for each version in service, 0 or more.
        """
        self._options = options
        self._largest_batch = largest_batch
        self._limits = limits or StepLimits()
        self._standby_count = standby_count
        self._lock = threading.Lock()
        self._ahead: EngineProcess | None = None
        self._processes: weakref.WeakSet[EngineProcess] = weakref.WeakSet()
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._loading: EngineProcess | None = None
        self._stopping = False
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
        gives_way = self._somebody_serves()
        process = self._take_process(gives_way)
        with self._lock:
            self._loading = process
            stopping = self._stopping
        if stopping:
            process.kill()
        spawning = Spawning(self._start_process, self._somebody_serves, self._standby_count)
        engine = Engine(version, self._largest_batch, process, spawning, gives_way=gives_way)
        with self._lock:
            self._engines.add(engine)
        return EngineServable(engine)

    def stop_loading(self) -> None:
        """Ends the load that runs, and all that come, whatever they do. Does not wait; any thread."""
        with self._lock:
            self._stopping = True
            serving = [engine.process for engine in self._engines if engine.serving]
            others = [process for process in (self._loading, self._ahead) if process and process not in serving]
        for process in others:
            process.kill()

    def kill(self) -> None:
        """Ends every process at once, whatever it does. Does not wait; any thread."""
        with self._lock:
            self._closed = True
            left = list(self._processes)
        for process in left:
            process.kill()

    def close(self) -> None:
        """Ends every process that is left, whatever it does. Blocking."""
        self.kill()
        with self._lock:
            left = list(self._processes)
        for process in left:
            process.end()

    def _somebody_serves(self) -> bool:
        with self._lock:
            return any(engine.serving for engine in self._engines)

    def _start_process(self, gives_way: bool) -> EngineProcess:
        return self._new_process(gives_way=gives_way)

    def _take_process(self, gives_way: bool) -> EngineProcess:
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.runs:  # it may have waited for hours: no version is to blame
            log.warning("engine process ended before it was used", pid=ahead.pid, how=ahead.describe_end())
            ahead.end()
            ahead = None
        return ahead or self._new_process(gives_way=gives_way)

    def _new_process(self, *, gives_way: bool) -> EngineProcess:
        limits = self._limits
        if not limits.memory_bytes:
            limits = replace(limits, memory_bytes=int(_SHARE_OF_FREE_MEMORY * available_bytes()))
        process = EngineProcess(replace(self._options, gives_way=gives_way), limits)
        with self._lock:
            self._processes.add(process)
            closed = self._closed
        if closed:
            process.kill()
        return process
