"""Loads versions into processes of their own."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from ferserve_server.backends.engine.engine import Engine, Version
from ferserve_server.backends.engine.process import EngineProcess
from ferserve_server.backends.engine.servable import EngineServable

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.backends.engine.options import EngineOptions
    from ferserve_server.domain.servable import ModelDescription, ServableId

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
