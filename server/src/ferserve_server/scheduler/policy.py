"""When to cut a batch, and what goes into it. Pure: no clock, no queue, no event loop.

Rules, in this order:

1. An executor is idle: take what waits, up to the largest batch, now. `max_queue_delay_s` above 0 lets a smaller
   batch wait that long for company; the default is not to.
   But beside a batch that runs, a few rows wait until it is back, COMPANY_S at most: they would pay what a batch
   costs whatever its size, and take a core from the threads that bring more rows. What few are, `company` says.
2. Every executor is busy: cut one batch ahead, but only a full one. A full batch cannot grow, so cutting it early
   costs nothing; a partial one stays open and goes on growing until an executor is free (docs/adr/0007).
3. Rows are shared out max-min fairly over the requests that wait: small requests go whole, large ones get what is
   left. So 512 faces from one caller do not hold up single ones, and every request in sight moves with each batch.
4. Interactive work goes before bulk work. Bulk work that has waited `bulk_promotion_s` counts as interactive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ferserve_server.domain.ports import CutReason, Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COMPANY_S: Final = 2e-3
"""Longest wait of few rows for more, in seconds: a batch of few takes less, and those that run are soon back."""


class Waiting(Protocol):
    """A request in the queue, as the rules see it."""

    @property
    def remaining(self) -> int:
        """Rows not yet in a batch. 0 for a request that was taken out; it gets no rows."""

    @property
    def priority(self) -> Priority:
        """How urgent it is."""

    @property
    def enqueued_at(self) -> float:
        """When it was taken, in seconds."""


@dataclass(frozen=True, slots=True)
class CutRules:
    """What the rules may be told.

    Attributes:
        max_batch_size: Rows of the largest batch, 1 or more.
        max_queue_delay_s: Longest wait of the oldest row while an executor is idle, 0 or more.
        bulk_promotion_s: Age at which bulk work counts as interactive.
        hold_until_queued: Cut nothing before this many rows wait. 0 but in tests.
        few_rows: Fewer rows than this do not run beside another batch; 0 or 1: any may.
    """

    max_batch_size: int
    max_queue_delay_s: float = 0.0
    bulk_promotion_s: float = 0.25
    hold_until_queued: int = 0
    few_rows: int = 0


class Executors(NamedTuple):
    """How busy the executors are.

    Attributes:
        idle: Executors that take a batch at once.
        batches_ahead: Batches that wait for an executor.
        running: Batches that run.
    """

    idle: int
    batches_ahead: int
    running: int = 0


class Dispatch(NamedTuple):
    """Cut now. `row_counts[i]` rows of the i-th waiting request, 0 or more; requests beyond its end get none."""

    row_counts: tuple[int, ...]
    reason: CutReason


class WaitUntil(NamedTuple):
    """Cut nothing now. Ask again at `when` (seconds), or, if None, when something has changed."""

    when: float | None = None


def decide(
    now: float, queue: Sequence[Waiting], queued_rows: int, executors: Executors, rules: CutRules
) -> Dispatch | WaitUntil:
    """Says what to do with what waits.

    Args:
        now: The time, in seconds.
        queue: What waits, oldest first. Looked at until as many urgent requests are found as the largest batch has
            rows, so the cost does not grow with a queue of urgent work.
        queued_rows: Rows that wait in the whole queue.
        executors: How busy the executors are.
        rules: What to go by.
    """
    if not queue or queued_rows < rules.hold_until_queued:
        return WaitUntil()
    full = queued_rows >= rules.max_batch_size
    if executors.idle == 0:
        if not full or executors.batches_ahead > 0:
            return WaitUntil()
        return Dispatch(share_out(now, queue, rules), CutReason.FULL)
    if full:
        return Dispatch(share_out(now, queue, rules), CutReason.FULL)
    too_few = executors.running > 0 and queued_rows < rules.few_rows
    wait_s = max(rules.max_queue_delay_s, COMPANY_S if too_few else 0.0)
    if wait_s > 0 and now < (due := queue[0].enqueued_at + wait_s):
        return WaitUntil(due)
    everything = tuple([waiting.remaining for waiting in queue])
    return Dispatch(everything, CutReason.DELAY if rules.max_queue_delay_s > 0 else CutReason.EXECUTOR_IDLE)


def share_out(now: float, queue: Iterable[Waiting], rules: CutRules) -> tuple[int, ...]:
    """Rows of each waiting request that go into the next batch, at most `max_batch_size` together."""
    capacity = rules.max_batch_size
    wanted: list[int] = []
    urgent: list[int] = []
    patient: list[int] = []
    for index, waiting in enumerate(queue):
        wanted.append(waiting.remaining)
        if waiting.remaining == 0:
            continue
        promoted = now - waiting.enqueued_at >= rules.bulk_promotion_s
        tier = urgent if promoted or waiting.priority is Priority.INTERACTIVE else patient
        if len(tier) < capacity:
            tier.append(index)
        if len(urgent) == capacity:
            break
    row_counts = [0] * len(wanted)
    for tier in (urgent, patient):
        for index, count in _max_min_fair(tier, [wanted[i] for i in tier], capacity):
            row_counts[index] = count
        capacity = rules.max_batch_size - sum(row_counts)
    return tuple(row_counts)


def _max_min_fair(indices: list[int], wanted: list[int], capacity: int) -> Iterator[tuple[int, int]]:
    """Shares `capacity` so that no one can get more without one who has less getting less.

    When rows do not divide evenly, the older requests get the odd ones.
    """
    if sum(wanted) <= capacity:
        yield from zip(indices, wanted, strict=True)
        return
    by_size = sorted(range(len(indices)), key=lambda i: wanted[i])
    level = 0
    left = capacity
    for rank, i in enumerate(by_size):
        level = left // (len(by_size) - rank)
        if wanted[i] > level:
            break
        left -= wanted[i]
    odd = capacity - sum(min(count, level) for count in wanted)
    for index, count in zip(indices, wanted, strict=True):
        share = min(count, level)
        if odd > 0 and count > level:
            share += 1
            odd -= 1
        yield index, share
