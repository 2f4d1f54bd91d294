"""Measures batch latencies of a version and chooses its batch sizes.

The choice is pure: it depends on the measured times and the rules alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Servable


_MAX_PADDING_RATIO: Final = 0.95
"""Maximum ratio of a size's time to that of the next larger one for it to save padding, because smaller savings
are within a clock's error."""

_NEAR_BEST: Final = 1.02
"""Maximum ratio of time per face to the best one, because a larger batch then gains nothing worth a wait."""

_MIN_SIZE_RATIO: Final = 2
"""Ratio of two measured sizes, because batch times of a net rise evenly with the faces (docs/performance.md), so
that sizes in between need not be measured."""


@dataclass(frozen=True, slots=True)
class BucketRules:
    """Configures the choice of batch sizes.

    Attributes:
        drop_inefficient: True if sizes that do not pay are dropped.
        target_s: The time in which a request must be answered, in seconds; 0: any.
        delay_s: Longest wait of a batch for more rows, in seconds.
    """

    drop_inefficient: bool = False
    target_s: float = 0.0
    delay_s: float = 0.0

    @property
    def needs_times(self) -> bool:
        """Returns whether the choice depends on batch times."""
        return self.drop_inefficient or self.target_s > 0


def choose_buckets(
    bucket_sizes: Sequence[int], latency_s: Mapping[int, float], rules: BucketRules
) -> tuple[int, ...]:
    """Chooses from `bucket_sizes`: first those within the target, of these those that pay.

    Args:
        bucket_sizes: Sizes to choose from, rising, one or more.
        latency_s: Time of a batch, in seconds above 0, by its size, of their landmarks at least; where the rules
            need no times, it may be empty.
        rules: Rules of the choice.
    """
    used = tuple(bucket_sizes)
    if not rules.needs_times:
        return used
    curve = interpolate(used, latency_s)
    if rules.target_s > 0:
        used = within_target(curve, rules.target_s, rules.delay_s)
    if rules.drop_inefficient:
        used = drop_inefficient_sizes({size: curve[size] for size in used})
    return used


def measured_sizes(bucket_sizes: Sequence[int]) -> tuple[int, ...]:
    """Selects the measured sizes of rising `bucket_sizes`: the first, the last, and others well apart."""
    found = [bucket_sizes[0]]
    for size in bucket_sizes[1:]:
        if size >= _MIN_SIZE_RATIO * found[-1]:
            found.append(size)
    if found[-1] != bucket_sizes[-1]:
        found.append(bucket_sizes[-1])
    return tuple(found)


def interpolate(bucket_sizes: Sequence[int], latency_s: Mapping[int, float]) -> dict[int, float]:
    """Interpolates the time of a batch, in seconds, of each size linearly between the known times.

    None is longer than that of a larger size: fewer rows can be padded, so a longer time is due to other work.

    Args:
        bucket_sizes: Sizes; none smaller than the smallest that is known, nor larger than the largest.
        latency_s: Times that are known, in seconds, by size; one or more.
    """
    known = sorted(latency_s)
    rising_s = np.minimum.accumulate([latency_s[size] for size in reversed(known)])[::-1]
    times = np.interp(bucket_sizes, known, rising_s)
    return dict(zip(bucket_sizes, times.tolist(), strict=True))


def drop_inefficient_sizes(latency_s: Mapping[int, float]) -> tuple[int, ...]:
    """Drops batch sizes that do not pay.

    The largest that stays is the smallest that comes within 2 % of the least time per face: larger ones would only
    delay clients. Below, a size is dropped that saves less than 5 % of the time of the next larger one that stays:
    padding up to that costs as much. A size in between that is merely not the best one stays, since it saves
    padding, and so does the smallest, for single requests.

    Args:
        latency_s: Time of a batch, in seconds above 0, by its size; one or more.

    Returns:
        The sizes that stay, rising, one or more.
    """
    sizes = sorted(latency_s)
    least_s = min(latency_s[size] / size for size in sizes)
    kept = [next(size for size in sizes if latency_s[size] / size <= _NEAR_BEST * least_s)]
    for size in reversed([size for size in sizes if size < kept[0]]):
        if latency_s[size] <= _MAX_PADDING_RATIO * latency_s[kept[0]] or size == sizes[0]:
            kept.insert(0, size)
    return tuple(kept)


def within_target(latency_s: Mapping[int, float], target_s: float, delay_s: float = 0.0) -> tuple[int, ...]:
    """Drops batch sizes that exceed a target answer time.

    While every executor is busy, a request waits for one batch to end and then for its own: with batches of L, and
    `delay_s` for more rows, it is answered after `delay_s + 2 L` at most. (With more than one batch's worth of
    faces before it, it waits longer: then the server is over its capacity, and the queue's limits and deadlines
    apply.)

    Args:
        latency_s: Time of a batch, in seconds, by its size; one or more.
        target_s: The time for an answer, in seconds.
        delay_s: Maximum wait of a batch for more rows, in seconds.

    Returns:
        The sizes up to the largest that fits, rising; the smallest alone if none does.
    """
    sizes = sorted(latency_s)
    fitting = [size for size in sizes if delay_s + 2 * latency_s[size] <= target_s]
    return tuple(size for size in sizes if size <= max(fitting, default=sizes[0]))


_ROUNDS: Final = 9
_VISITS: Final = 3
"""Consecutive runs of a size when sizes alternate, because the first run meets caches left by another size."""

_SIZE_S: Final = 0.4
"""Maximum time for which a batch size is measured, in seconds, though at least once."""


def measure_batches(
    servables: Sequence[Servable],
    faces: CropBatch,
    bucket_size: int,
    *,
    at_least_s: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = lambda _: None,
) -> list[list[float]]:
    """Measures batch times, in seconds, of each servable, alternating so that other work affects all.

    Args:
        servables: The servables to run; warm.
        faces: Faces to run it with, uint8 [N, H, W, 1], repeated as often as needed.
        bucket_size: Size of the batch.
        at_least_s: Minimum duration, in seconds: other work often takes the core for longer than a few short
            batches.
        now: A clock, in seconds.
        rest: Called after each round with its duration, to leave that much time to live traffic.
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
    """Measures the least time of a batch, in seconds, by its size.

    The sizes alternate: other work often takes the core for longer than all runs of a small batch, and can only
    make them longer. By medians of one size after the other, of three starts of fer-nano on a quiet machine one
    dropped the sizes from 16 to 28, and another those above 56.

    Args:
        servable: The servable to run; warm.
        faces: Faces to run it with, uint8 [N, H, W, 1], repeated as often as needed.
        bucket_sizes: Sizes of batches.
        now: A clock, in seconds.
        rest: Called after each batch with its duration, to leave that much time to live traffic.
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
    """Computes how many times as fast the second of two is, by the least time of each.

    Other work on the machine can only lengthen a run, and may distort the medians of two alternating versions
    arbitrarily: under full load they gave 0.9 where the processor time, and the least times, gave 1.6.
    """
    fast, slow = min(fast_s), min(slow_s)
    return slow / fast if fast > 0 else 1.0
