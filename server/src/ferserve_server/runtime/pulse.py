"""Tells other threads whether the event loop runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_BEAT_S: Final = 1.0
"""Interval of beats, in seconds."""

_DEAD_S: Final = 15.0
"""Time without a beat after which the event loop counts as stuck, in seconds."""


class Pulse:
    """Records that the event loop runs. `beat` runs on it; `is_alive` is for any thread.

    Args of the constructor:
        now: Returns the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._beat_at = now()

    async def beat(self) -> None:
        """Beats once a second. Cancel to stop."""
        while True:
            self._beat_at = self._now()
            await asyncio.sleep(_BEAT_S)

    def is_alive(self) -> bool:
        """Returns whether there was a beat within the last 15 seconds."""
        return self._now() - self._beat_at < _DEAD_S
