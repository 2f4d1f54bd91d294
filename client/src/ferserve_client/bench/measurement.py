"""Records latencies and outcomes, and sums them up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
"""Percentiles of every result."""

OK: Final = "OK"
"""Outcome of calls and frames that were answered whole."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Sums up one load."""

    offered_rate: float | None
    """Calls or frames a second that were asked for. None: a closed loop."""
    duration_s: float
    """Measured time in seconds, without the warm-up."""
    outcomes: dict[str, int]
    """Calls or frames by outcome: `OK`, or the reason of the failure."""
    item_count: int
    """Faces or pictures of the answers with `OK`."""
    latencies_ms: dict[str, float]
    """Latency of the answers with `OK`, in milliseconds: `p50` to `p99.9`, `mean` and `max`. Open loops count from
    the scheduled arrival, so that time in which the client could not send is in them. Empty: no answer."""
    client_busy_share: float
    """Processor time of this process over the measured time. Near 1, the client is the limit."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Percentile and latency in milliseconds, for drawing."""

    @property
    def ok_count(self) -> int:
        """Return the calls or frames that were answered whole."""
        return self.outcomes.get(OK, 0)

    @property
    def failed_count(self) -> int:
        """Return the calls or frames that were not."""
        return sum(self.outcomes.values()) - self.ok_count

    @property
    def calls_per_s(self) -> float:
        """Return answered calls or frames a second."""
        return self.ok_count / self.duration_s

    @property
    def items_per_s(self) -> float:
        """Return answered faces or pictures a second."""
        return self.item_count / self.duration_s

    def record(self) -> dict[str, Any]:
        """Return the measurement for JSON."""
        return {
            "offered_rate": self.offered_rate,
            "duration_s": round(self.duration_s, 3),
            "calls_per_s": round(self.calls_per_s, 2),
            "items_per_s": round(self.items_per_s, 2),
            "outcomes": self.outcomes,
            "latencies_ms": {name: round(value, 3) for name, value in self.latencies_ms.items()},
            "client_busy_share": round(self.client_busy_share, 3),
        }


class Recorder:
    """Takes in outcomes of calls that are due within the measured time. Not thread-safe.

    Args:
        begin_s: Begin of the measured time on the caller's clock: the end of the warm-up.
        end_s: Its end.
    """

    def __init__(self, begin_s: float, end_s: float) -> None:
        self._begin_s = begin_s
        self._end_s = end_s
        self._latencies_s: list[float] = []
        self._outcomes: Counter[str] = Counter()
        self._item_count = 0

    def add(self, due_s: float, done_s: float, outcome: str, item_count: int) -> None:
        """Take in a call: the time at which it was due, the time of its answer, its outcome and items."""
        if not self._begin_s <= due_s < self._end_s:
            return
        self._outcomes[outcome] += 1
        if outcome == OK:
            self._latencies_s.append(done_s - due_s)
            self._item_count += item_count

    def measurement(self, offered_rate: float | None, busy_share: float) -> Measurement:
        """Sum up what was taken in."""
        latencies: dict[str, float] = {}
        curve: list[tuple[float, float]] = []
        if self._latencies_s:
            milliseconds = np.asarray(self._latencies_s) * 1000
            values = np.percentile(milliseconds, PERCENTILES)
            latencies = {f"p{p:g}": float(value) for p, value in zip(PERCENTILES, values, strict=True)}
            latencies |= {"mean": float(milliseconds.mean()), "max": float(milliseconds.max())}
            points = [*range(0, 100, 5), 99, 99.5, 99.9, 100]
            curve = [(float(p), float(np.percentile(milliseconds, p))) for p in points]
        return Measurement(
            offered_rate,
            self._end_s - self._begin_s,
            dict(self._outcomes.most_common()),
            self._item_count,
            latencies,
            busy_share,
            curve,
        )
