"""Schedules the arrivals of an open loop, independent of the answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Arrivals = Literal["poisson", "constant"]
"""`poisson`: independent callers, with bursts. `constant`: equal gaps, as of cameras."""


def arrival_times(rate: float, duration_s: float, kind: Arrivals, seed: int) -> Iterator[float]:
    """Yield the times of arrivals in seconds from the start, rising, below `duration_s`.

    Args:
        rate: Mean arrivals a second, above 0.
        duration_s: End of the schedule in seconds.
        kind: Distribution of the gaps.
        seed: Makes the schedule of `poisson` repeatable.

    Raises:
        ValueError: `rate` is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"the rate must be above 0, not {rate}")
    source = random.Random(seed)  # noqa: S311 - a schedule is no secret
    time_s = 0.0
    while True:
        time_s += source.expovariate(rate) if kind == "poisson" else 1.0 / rate
        if time_s >= duration_s:
            return
        yield time_s
