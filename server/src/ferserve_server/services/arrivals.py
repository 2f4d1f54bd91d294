"""Bounds the arrival time of a request, which may be well before it is read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_server.domain.ports import Clock


class Arrivals:
    """Records the time at which the current event-loop iteration began to read. Event loop only.

    What an iteration reads from its sockets was in them when it began, as reported by the selector. asyncio does
    not report that time, so the time of the first query in the iteration is used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_at: float | None = None

    def latest_at(self) -> float:
        """Returns the latest time at which a request can have arrived that is read now, in seconds."""
        if self._began_at is None:
            self._began_at = self._clock.now()
            # Runs in the next iteration, before what that reads from its sockets.
            asyncio.get_running_loop().call_soon(self._end)
        return self._began_at

    def _end(self) -> None:
        self._began_at = None
