"""When an engine that was lost is brought back. Pure."""

from __future__ import annotations

from typing import Final

_STEADY_S: Final = 60.0
"""An engine that lived this long is not in a crash loop."""

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0


class Revivals:
    """Counts losses in a row, and says how long to wait before the next try.

    The first loss is met at once: callers wait. After that the pauses double, so that a batch which a caller sends
    again and again, or a machine without memory, does not keep a core busy with starts.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def lost(self, lived_s: float) -> float:
        """Notes a loss, and returns the seconds to wait before a new start.

        Args:
            lived_s: How long the engine had answered; 0 for a start that failed.
        """
        self._in_a_row = 1 if lived_s >= _STEADY_S else self._in_a_row + 1
        if self._in_a_row == 1:
            return 0.0
        # The exponent is bounded: 2.0 ** 2000 is an error.
        return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._in_a_row - 2, 10))

    @property
    def hopeless(self) -> bool:
        """Whether callers had better not wait: it has been lost three times in a row."""
        return self._in_a_row >= 3
