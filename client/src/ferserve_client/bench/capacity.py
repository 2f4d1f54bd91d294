"""Searches for the highest rate that a server answers within a latency bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ferserve_client.bench.measurement import Measurement

GROWTH: Final = 1.5
"""Factor between rates while the bound holds."""
PRECISION: Final = 1.05
"""The search ends when the lowest rate that fails is at most this multiple of the highest that holds."""
MAX_STEPS: Final = 16
"""Loads of one search: enough for a start that is off by a factor of 20."""
MAX_FAILED_SHARE: Final = 0.001
"""Largest share of failures of a rate that holds."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Decides whether a rate holds."""

    p99_ms: float
    """Highest 99th percentile of the latency, in milliseconds."""

    def holds(self, measurement: Measurement) -> bool:
        """Tell whether nearly all calls were answered, and 99 % of them in time."""
        total = measurement.ok_count + measurement.failed_count
        if not total or measurement.failed_count > MAX_FAILED_SHARE * total:
            return False
        return measurement.latencies_ms["p99"] <= self.p99_ms


class CapacitySearch:
    """Proposes rates: growing ones until the bound breaks, then halvings between. Pure; not thread-safe.

    Args:
        first_rate: First rate to try, above 0.
    """

    def __init__(self, first_rate: float) -> None:
        self._first_rate = first_rate
        self._step_count = 0
        self.highest_held: float | None = None
        """Highest rate that held. None: none did."""
        self._lowest_broken: float | None = None

    def next_rate(self) -> float | None:
        """Return the rate to try next; None when the search is over."""
        if self._step_count >= MAX_STEPS:
            return None
        held, broken = self.highest_held, self._lowest_broken
        if held is None:
            return self._first_rate if broken is None else broken / GROWTH**2
        if broken is None:
            return held * GROWTH
        return None if broken <= held * PRECISION else (held * broken) ** 0.5

    def observe(self, rate: float, *, holds: bool) -> None:
        """Take in the result of a rate."""
        self._step_count += 1
        if holds:
            self.highest_held = max(rate, self.highest_held or 0.0)
        else:
            self._lowest_broken = min(rate, self._lowest_broken or rate)
