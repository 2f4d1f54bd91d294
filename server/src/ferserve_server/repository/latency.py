"""How long a version's batches take."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Servable

_ROUNDS: Final = 9
_VISITS: Final = 3
"""If sizes take turns, each runs three times in a row: the first meets the caches that another size has left."""

_SIZE_S: Final = 0.4
"""A batch size is measured for no longer than this, though once at least."""


def measure_batches(
    servables: Sequence[Servable],
    faces: CropBatch,
    bucket_size: int,
    *,
    at_least_s: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = lambda _: None,
) -> list[list[float]]:
    """Times of a batch, in seconds, of each servable. They take turns, so that other work meets all of them.

    Args:
        servables: What to run; warm.
        faces: Faces to run it with, uint8 [N, H, W, 1], repeated as often as it takes.
        bucket_size: Size of the batch.
        at_least_s: Go on for so many seconds: other work often takes the core for longer than a few short batches.
        now: A clock, in seconds.
        rest: Is called after each round with how long it took, to leave that much time to live traffic.
    """
    batch = np.resize(faces, (bucket_size, *faces.shape[1:]))
    times: list[list[float]] = [[] for _ in servables]
    begun_at = now()
    for number in count(1):
        round_at = now()
        for servable, found in zip(servables, times, strict=True):
            started_at = now()
            servable.predict(batch)
            found.append(now() - started_at)
        rest(now() - round_at)
        passed_s = now() - begun_at
        if passed_s > _SIZE_S * len(servables) or (number >= _ROUNDS and passed_s >= at_least_s):
            break
    return times


def measure_curve(
    servable: Servable,
    faces: CropBatch,
    bucket_sizes: Sequence[int],
    *,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = lambda _: None,
) -> dict[int, float]:
    """Least time of a batch, in seconds, by its size.

    The sizes take turns: other work often takes the core for longer than all runs of a small batch, and can only
    make them longer. By medians of one size after the other, of three starts of fer-nano on a quiet machine one
    left out the sizes from 16 to 28, and another those above 56.

    Args:
        servable: What to run; warm.
        faces: Faces to run it with, uint8 [N, H, W, 1], repeated as often as it takes.
        bucket_sizes: Sizes of batches.
        now: A clock, in seconds.
        rest: Is called after each batch with how long it took, to leave that much time to live traffic.
    """
    batches = {size: np.resize(faces, (size, *faces.shape[1:])) for size in bucket_sizes}
    times: dict[int, list[float]] = {size: [] for size in batches}
    visit = [size for size in batches for _ in range(_ROUNDS // _VISITS)]
    for size in visit * _VISITS:
        if sum(times[size]) > _SIZE_S:
            continue
        started_at = now()
        servable.predict(batches[size])
        taken_s = now() - started_at
        times[size].append(taken_s)
        rest(taken_s)
    return {size: min(found) for size, found in times.items()}


def speedup(slow_s: Sequence[float], fast_s: Sequence[float]) -> float:
    """How many times as fast the second of two is, by the least time of each.

    Other work on the machine can only make a run longer, and it may take the medians of two versions in turns
    anywhere: beside a machine's worth of it they told 0.9 where the processor time, and the least times, told 1.6.
    """
    fast, slow = min(fast_s), min(slow_s)
    return slow / fast if fast > 0 else 1.0
