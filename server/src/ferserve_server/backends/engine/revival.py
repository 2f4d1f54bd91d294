"""Decides when an engine that was lost is restarted. Pure."""

from __future__ import annotations

import math
from typing import Final

_FORGOTTEN_S: Final = 10.0
"""An engine that lived this long makes one earlier loss forgotten."""

_DELAY_RANGE_S: Final = (0.1, 5.0)
"""First and longest pause before a start, doubled each time."""

_CRASH_LOOP: Final = 3
"""Losses, those forgotten not counted, from which nobody should wait for the next start."""


class Revivals:
    """Counts losses that are not forgotten yet, and tells how long to wait before the next start.

    The first loss is met at once: callers wait. After that the pauses double, so that a batch which a caller sends
    again and again, or a machine without memory, does not keep a core busy with starts.
    """

    def __init__(self) -> None:
        self._losses = 0.0

    def lost(self, lived_s: float) -> float:
        """Notes a loss, and returns the seconds to wait before a new start.

        Args:
            lived_s: How long the engine had answered; 0 for a start that failed.
        """
        self._losses = max(0.0, self._losses - lived_s / _FORGOTTEN_S) + 1
        count = math.ceil(self._losses - 1e-9)
        if count == 1:
            return 0.0
        first_s, longest_s = _DELAY_RANGE_S
        # The exponent is bounded: 2.0 ** 2000 is an error.
        return min(longest_s, first_s * 2.0 ** min(count - 2, 10))

    @property
    def hopeless(self) -> bool:
        """Whether callers had better not wait: it has been lost several times in a short while."""
        return self._losses > _CRASH_LOOP - 1
