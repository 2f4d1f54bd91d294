"""Coalesces requests that arrive in one event-loop iteration into one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ferserve_server.domain.ports import Clock

MAX_WAIT_S: Final = 1e-3
"""Maximum wait of an executor for the rest of an iteration, in seconds, because an iteration reads from all
connections: with 250 of them it takes 25 ms, and the engine idled three quarters of the time.
"""


class CoalescedCallback:
    """Calls back once at the end of an event-loop iteration, however often that is requested.

    An iteration takes in what has come on all connections, and each may carry the calls of many callers. Were the
    queue looked at after each call, an idle executor would take the first alone: with 128 callers of fer-nano four
    of ten batches had one face. When the iteration takes longer than `MAX_WAIT_S` it calls back within it.
    Event loop only.
    """

    __slots__ = ("_callback", "_clock", "_loop", "_requested_at", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._callback = callback
        self._scheduled = False
        self._requested_at = 0.0

    def request(self) -> None:
        """Schedules the callback, or calls it at once if it is due."""
        now = self._clock.now()
        if not self._scheduled:
            self._scheduled = True
            self._requested_at = now
            self._loop.call_soon(self._run)
        elif now - self._requested_at >= MAX_WAIT_S:
            self._requested_at = now
            self._callback()

    def _run(self) -> None:
        self._scheduled = False
        self._callback()
