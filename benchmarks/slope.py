"""Fits a straight line to points, with the uncertainty of its slope. Pure."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_Z_95 = 1.959964


def slope_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Fits the least-squares slope per step, with its 95 % interval.

    Args:
        values: Three or more, one a step. Their errors are taken as independent; memory that comes and goes over
            several steps makes the true interval wider.

    Returns:
        The slope, the interval's low end and its high end, each per step.
    """
    count = len(values)
    if count < 3:
        raise ValueError(f"a slope with an interval needs 3 values or more, not {count}")
    steps = range(count)
    slope, level = statistics.linear_regression(steps, values)
    residual = sum((value - level - slope * step) ** 2 for step, value in zip(steps, values, strict=True))
    spread = sum((step - (count - 1) / 2) ** 2 for step in steps)
    margin = _t_95(count - 2) * math.sqrt(residual / (count - 2) / spread)
    return slope, slope - margin, slope + margin


def _t_95(degrees: int) -> float:
    """Student's t, two-sided 95 %: the first terms of Abramowitz & Stegun 26.7.5, within 2 % from 3 degrees on."""
    z = _Z_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
