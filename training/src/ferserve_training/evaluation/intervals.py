"""Computes confidence intervals of shares."""

import math
from typing import Final

_Z_95: Final = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(successes: int, sample_count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share (Wilson 1927).

    Args:
        successes: 0 to `sample_count`.
        sample_count: At least 1.

    Returns:
        Its lower and upper end, 0 to 1.
    """
    share = successes / sample_count
    spread = _Z_95**2 / sample_count
    centre = share + spread / 2
    half_width = _Z_95 * math.sqrt(share * (1 - share) / sample_count + spread / (4 * sample_count))
    return max(0.0, (centre - half_width) / (1 + spread)), min(1.0, (centre + half_width) / (1 + spread))
