"""Keeps standby engine processes that replace a crashed one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.engine.process import EngineProcess

log = structlog.get_logger(__name__)

_POLL_INTERVAL_S: Final = 1.0
"""Interval at which standbys are checked, in seconds; one that has ended is replaced within that time."""

_RETRY_RANGE_S: Final = (1.0, 60.0)
"""First and maximum pause after a standby that could not be made, in seconds; doubled each time."""


class Standbys:
    """Keeps processes that have loaded and warmed the version of an engine, and share its memory.

    A thread of its own makes them, one at a time. Thread-safety: any thread.

    Args of the constructor:
        count: Number to keep, 0 or more.
        make: Makes one; blocking, may raise anything.
        name: The version, for the log.
    """

    def __init__(self, count: int, make: Callable[[], EngineProcess], name: str) -> None:
        self._count = count
        self._make = make
        self._name = name
        self._changed = threading.Condition()
        self._ready: list[EngineProcess] = []
        self._started = False
        self._closed = False

    @property
    def ready_count(self) -> int:
        """Returns the number of processes that are ready to serve now."""
        with self._changed:
            return sum(process.runs for process in self._ready)

    def start(self) -> None:
        """Starts making them. A repeated call does nothing."""
        with self._changed:
            if self._started or self._closed or not self._count:
                return
            self._started = True
        threading.Thread(target=self._keep, name="engine-standby", daemon=True).start()

    def take(self) -> EngineProcess | None:
        """Takes a running one, if there is one; another is made in its place."""
        with self._changed:
            while self._ready:
                process = self._ready.pop(0)
                if process.runs:
                    self._changed.notify_all()
                    return process
                threading.Thread(target=process.end, name="end-standby", daemon=True).start()
        return None

    def close(self) -> None:
        """Ends them. Blocking."""
        with self._changed:
            self._closed = True
            ready, self._ready = self._ready, []
            self._changed.notify_all()
        for process in ready:
            process.kill()
            process.end()

    def _keep(self) -> None:
        pause_s = _RETRY_RANGE_S[0]
        while self._wait_until_one_is_missing():
            try:
                process = self._make()
            except Exception:
                with self._changed:
                    if self._closed:
                        return
                log.exception("standby engine not made", servable=self._name, next_try_in_s=pause_s)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, pause_s)
                pause_s = min(2 * pause_s, _RETRY_RANGE_S[1])
                continue
            pause_s = _RETRY_RANGE_S[0]
            with self._changed:
                if not self._closed:
                    self._ready.append(process)
                    log.info("standby engine ready", servable=self._name, pid=process.pid)
                    continue
            process.kill()
            process.end()

    def _wait_until_one_is_missing(self) -> bool:
        """Waits until a standby is missing; returns False once it is closed."""
        while True:
            with self._changed:
                if self._closed:
                    return False
                ended = [process for process in self._ready if not process.runs]
                self._ready = [process for process in self._ready if process not in ended]
                if not ended and len(self._ready) < self._count:
                    return True
                if not ended:
                    self._changed.wait(_POLL_INTERVAL_S)
            for process in ended:
                log.warning("standby engine ended", servable=self._name, how=process.describe_end())
                process.end()
