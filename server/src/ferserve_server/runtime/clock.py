"""The real clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class MonotonicClock:
    """Implements `domain.ports.Clock` on `time.monotonic` and the running event loop."""

    now = staticmethod(time.monotonic)
    """Seconds since some start. Thread-safe. No function around it: a request asks seven times."""

    @staticmethod
    def call_at(when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back on the running loop at `when`. Event loop only."""
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)
