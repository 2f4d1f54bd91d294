"""Estimates the fixed cost of a batch, and the row count below which paying it twice is not worth it. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DISPATCH_OVERHEAD_S: Final = 0.25e-3
"""Processor time of a batch beside its execution, in seconds: shared memory, two messages, two threads woken. With
fer-nano and one caller the server takes 0.75 ms a call more than with a model that takes no time, the execution
0.46 ms (docs/performance.md)."""

_MAX_ROWS: Final = 32
"""Maximum result, because a few rows should wait briefly whatever the measured times are."""


def min_concurrent_rows(latency_s: Mapping[int, float]) -> int:
    """Returns the number of rows from which a batch is worth running beside another one.

    A batch of n rows takes about a + b n. Rows are too few while b n is below a plus the dispatch overhead: on two
    cores fewer than 10 with fer-nano and than 2 with fer-small; none with fer-base. Side by side they would pay a
    twice.

    Args:
        latency_s: Time of a batch, in seconds, by its size; may be empty.

    Returns:
        0 to 32; 0 if there are not two sizes to tell from.
    """
    if len(latency_s) < 2:
        return 0
    sizes = sorted(latency_s)
    half, largest = sizes[(len(sizes) - 1) // 2], sizes[-1]
    row_s = (latency_s[largest] - latency_s[half]) / (largest - half)
    # The median over the small sizes: the first one measured may have met a cold cache.
    batch_s = (
        statistics.median(latency_s[size] - size * row_s for size in sizes if size <= half) + DISPATCH_OVERHEAD_S
    )
    if batch_s <= 0:
        return 0
    return _MAX_ROWS if row_s * _MAX_ROWS <= batch_s else int(batch_s / row_s)
