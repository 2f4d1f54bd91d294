"""Implements the real clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class MonotonicClock:
    """Implements `domain.ports.Clock` on `time.monotonic` and the running event loop."""

    now = staticmethod(time.monotonic)
    """Returns seconds since an arbitrary start. Thread-safe. Not wrapped, because a request reads it seven times.
    """

    @staticmethod
    def call_at(when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back on the running loop at `when`. Event loop only."""
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)
