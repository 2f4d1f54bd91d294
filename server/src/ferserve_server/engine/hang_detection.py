"""Decides when a batch in an engine process counts as hung, from the version's batch times. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MIN_TIMEOUT_S: Final = 2.0
"""Minimum time after which a batch counts as hung, in seconds, because one takes 1 s on a swapping machine."""

_FACTOR: Final = 30.0
"""Ratio to the slowest recent batch from which a batch counts as hung."""

_DECAY: Final = 0.999
"""Share of the slowest time that is kept with each batch, so that a slow batch is forgotten after a thousand."""

_MAX_STEP_S: Final = 0.5
"""Maximum time counted between two checks, in seconds, because a process that was itself suspended, with its
container or machine, must not take an engine for hung that was suspended with it."""

CHECK_INTERVAL_S: Final = 0.25
"""Interval between two checks of running batches, in seconds."""


class HangDetection:
    """Monitors running batches. One thread.

    Args of the constructor:
        max_s: Time after which a batch counts as hung in any case, in seconds.
        latency_s: Measured times of batches by size, in seconds; empty if none were measured.
    """

    def __init__(self, max_s: float, latency_s: Mapping[int, float]) -> None:
        self._max_s = max_s
        self._slowest_s = max(latency_s.values(), default=0.0)
        self._ages_s: dict[int, float] = {}
        self._checked_at: float | None = None

    @property
    def limit_s(self) -> float:
        """Returns the time after which a batch counts as hung, in seconds."""
        if not self._slowest_s:
            return self._max_s
        return min(self._max_s, max(_MIN_TIMEOUT_S, _FACTOR * self._slowest_s))

    def answered(self, sequence: int, duration_s: float) -> None:
        """Records that a batch returned, and its run time."""
        self._ages_s.pop(sequence, None)
        self._slowest_s = max(duration_s, self._slowest_s * _DECAY)

    def check(self, now: float, running: Iterable[int]) -> list[int]:
        """Counts the time since the last check for each running batch; returns those that hang."""
        step_s = 0.0 if self._checked_at is None else min(now - self._checked_at, _MAX_STEP_S)
        self._checked_at = now
        self._ages_s = {each: self._ages_s[each] + step_s if each in self._ages_s else 0.0 for each in running}
        return [each for each, age_s in self._ages_s.items() if age_s >= self.limit_s]

    def reset(self) -> None:
        """Forgets running batches, because another engine has started."""
        self._ages_s.clear()
        self._checked_at = None
