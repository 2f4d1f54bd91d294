"""Decides when a batch is dispatched and which rows it holds. Pure: no clock, no queue, no event loop.

Rules, in this order:

1. An executor is idle: dispatch the waiting rows, up to the largest batch, now. `max_queue_delay_s` above 0 lets a
   smaller batch wait that long for more rows; by default it does not wait.
   Beside a running batch, fewer rows than `min_concurrent_rows` wait until it is done, at most
   COALESCE_TIMEOUT_S: they would pay the fixed cost of a batch, and take a core from the threads that bring more
   rows.
2. Every executor is busy: dispatch one batch ahead, but only a full one. A full batch cannot grow, so dispatching
   it early costs nothing; a partial one keeps growing until an executor is free (docs/adr/0007).
3. Rows are shared fairly between callers, in rounds of a quantum of rows each (deficit round robin), and only then
   between the requests of one caller, earliest deadline first. A request gets a quarter of its caller's rows
   before another one of the same caller gets any, and the rest when nothing else is left: 512 faces in one
   request do not delay single ones, and requests of usual sizes stay in one batch.
4. Interactive work goes before bulk work. Bulk work that has waited `bulk_promotion_s` counts as interactive.
5. A request whose deadline would pass while its batch runs is dropped, if there is another one to run instead
   (earliest feasible deadline; docs/adr/0031). If there is none it runs: the time estimate may be stale.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from ferserve_server.domain.ports import DispatchReason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

COALESCE_TIMEOUT_S: Final = 2e-3
"""Maximum wait of a few rows for a running batch, in seconds: a small batch takes less and is soon done."""

_SHARES: Final = 4
"""Parts of a batch: a quantum is a quarter of the largest batch, so that each batch holds rows of up to four
callers with a full backlog, and each of their requests of 32 faces in one piece.
"""


class Waiting(Protocol):
    """Describes a queued request for the rules."""

    @property
    def remaining(self) -> int:
        """Returns the number of rows not yet in a batch. 0 for a removed request; it gets no rows."""

    @property
    def enqueued_at(self) -> float:
        """Returns the time of its acceptance, in seconds."""

    @property
    def deadline(self) -> float | None:
        """Returns the deadline of its answer, in seconds, or None."""

    @property
    def due(self) -> float:
        """Returns the time that orders the requests of one caller, in seconds."""


W = TypeVar("W", bound=Waiting)
W_co = TypeVar("W_co", bound=Waiting, covariant=True)


class Backlog(Protocol[W_co]):
    """Describes the waiting requests of one caller."""

    @property
    def interactive(self) -> Sequence[W_co]:
        """Returns those of interactive priority, in the order of service."""

    @property
    def bulk(self) -> Sequence[W_co]:
        """Returns those of bulk priority, oldest first."""

    @property
    def quantum_left(self) -> int:
        """Returns the rows of a quantum that the last batch had no space for; 0 if there was space."""


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """Holds the parameters of the rules.

    Attributes:
        max_batch_size: Rows of the largest batch, 1 or more.
        max_queue_delay_s: Longest wait of the oldest row while an executor is idle, 0 or more.
        bulk_promotion_s: Age at which bulk work counts as interactive.
        hold_until_queued: Dispatch nothing before this many rows wait. 0 but in tests.
        min_concurrent_rows: Fewer rows than this do not run beside another batch; 0 or 1: any may.
    """

    max_batch_size: int
    max_queue_delay_s: float = 0.0
    bulk_promotion_s: float = 0.25
    hold_until_queued: int = 0
    min_concurrent_rows: int = 0

    @property
    def quantum(self) -> int:
        """Returns the rows that a caller gets before the next one has its share, 1 or more."""
        return max(1, self.max_batch_size // _SHARES)


class Executors(NamedTuple):
    """Describes the load of the executors.

    Attributes:
        idle: Executors that take a batch at once.
        batches_ahead: Batches that wait for an executor.
        running: Batches that run.
    """

    idle: int
    batches_ahead: int
    running: int = 0


class QueueState(NamedTuple, Generic[W]):
    """Describes the waiting requests.

    Attributes:
        backlogs: The callers with requests, in the order in which they are served.
        row_count: Rows that wait, of all callers.
        oldest_at: When the oldest request was accepted, in seconds.
    """

    backlogs: Collection[Backlog[W]]
    row_count: int
    oldest_at: float


class Dispatch(NamedTuple, Generic[W]):
    """Decides to run a batch now.

    Attributes:
        takes: Requests and how many of their rows the batch holds, 1 or more each.
        late: Requests that are to be dropped, because they can no longer be answered in time.
        reason: Why it is dispatched now.
        served: Callers that have had a quantum, in order; they go behind the others.
        interrupted: The caller that the batch had no room for in the middle of its quantum, and the rows left of
            that; it stays first. Callers at the end of batches would get less otherwise.
    """

    takes: tuple[tuple[W, int], ...]
    late: tuple[W, ...]
    reason: DispatchReason
    served: tuple[Backlog[W], ...] = ()
    interrupted: tuple[Backlog[W], int] | None = None


class WaitUntil(NamedTuple):
    """Decides to run nothing now. Ask again at `when` (seconds), or, if None, after a change."""

    when: float | None = None


def decide(
    now: float, queue: QueueState[W], executors: Executors, rules: DispatchRules, service_s: float = 0.0
) -> Dispatch[W] | WaitUntil:
    """Decides the treatment of the waiting requests.

    Args:
        now: The time, in seconds.
        queue: What waits.
        executors: How busy the executors are.
        rules: The parameters.
        service_s: Time until the answers of a batch that is dispatched now are out, in seconds.
    """
    if queue.row_count == 0 or queue.row_count < rules.hold_until_queued:
        return WaitUntil()
    full = queue.row_count >= rules.max_batch_size
    if executors.idle == 0:
        if not full or executors.batches_ahead > 0:
            return WaitUntil()
        return share_out(now, queue.backlogs, rules, DispatchReason.FULL, service_s)
    if full:
        return share_out(now, queue.backlogs, rules, DispatchReason.FULL, service_s)
    too_few = executors.running > 0 and queue.row_count < rules.min_concurrent_rows
    wait_s = max(rules.max_queue_delay_s, COALESCE_TIMEOUT_S if too_few else 0.0)
    if wait_s > 0 and now < (due := queue.oldest_at + wait_s):
        return WaitUntil(due)
    reason = DispatchReason.DELAY if rules.max_queue_delay_s > 0 else DispatchReason.EXECUTOR_IDLE
    everything = [
        each for backlog in queue.backlogs for each in _waiting(itertools.chain(backlog.interactive, backlog.bulk))
    ]
    feasible, late = _feasible(everything, now + service_s)
    return Dispatch(tuple((each, each.remaining) for each in feasible), tuple(late), reason)


def share_out(
    now: float,
    backlogs: Collection[Backlog[W]],
    rules: DispatchRules,
    reason: DispatchReason = DispatchReason.FULL,
    service_s: float = 0.0,
) -> Dispatch[W]:
    """Shares the rows of one batch between callers; see `decide`.

    The cost grows with the rows of a batch, not with the queue.
    """
    dispatch = _shares(now, backlogs, rules, reason, now + service_s)
    return dispatch if dispatch.takes else _shares(now, backlogs, rules, reason, -1.0)


def _shares(
    now: float,
    backlogs: Collection[Backlog[W]],
    rules: DispatchRules,
    reason: DispatchReason,
    earliest_end: float,
) -> Dispatch[W]:
    """Shares out a batch among the requests whose deadline is not before `earliest_end`."""
    capacity = rules.max_batch_size
    counts: dict[W, int] = {}
    late: list[W] = []
    served: dict[int, Backlog[W]] = {}
    interrupted = None
    for urgent in (True, False):
        allotments = [
            _Allotment(backlog, _tier(now, backlog, rules, urgent=urgent), rules.quantum, earliest_end, late)
            for backlog in backlogs
        ]
        rounds = deque(allotments)
        while rounds and capacity > 0:
            allotment = rounds.popleft()
            entitled = allotment.quantum
            granted = allotment.grant(min(entitled, capacity))
            if not granted:
                continue
            backlog = allotment.backlog
            served.pop(id(backlog), None)
            if granted == capacity < entitled:
                interrupted = backlog, entitled - granted
            else:
                served[id(backlog)] = backlog
            capacity -= granted
            rounds.append(allotment)
        for allotment in allotments:
            allotment.share_out(counts)
    return Dispatch(tuple(counts.items()), tuple(late), reason, tuple(served.values()), interrupted)


class _Allotment(Generic[W]):
    """Allots rows of one batch to one caller, round by round, and to its requests.

    Attributes:
        backlog: The caller's.
        quantum: Rows that it may get next.
    """

    __slots__ = (
        "_earliest_end",
        "_full_quantum",
        "_granted",
        "_late",
        "_least_rows",
        "_reach",
        "_requests",
        "_seen",
        "_seen_rows",
        "backlog",
        "quantum",
    )

    def __init__(
        self, backlog: Backlog[W], requests: Iterator[W], quantum: int, earliest_end: float, late: list[W]
    ) -> None:
        self.backlog = backlog
        self._requests = requests
        self._earliest_end = earliest_end
        self._late = late
        self._full_quantum = quantum
        self._least_rows = max(1, quantum // _SHARES)
        self.quantum = backlog.quantum_left or quantum
        self._seen: list[W] = []
        self._seen_rows = self._reach = self._granted = 0

    def grant(self, row_count: int) -> int:
        """Grants up to this many rows more, and returns the number granted."""
        self.quantum = self._full_quantum
        wanted = self._granted + row_count
        # Look further than the rows go, so that a large request does not hide the small ones behind it.
        while self._reach < wanted:
            request = next(self._requests, None)
            if request is None:
                break
            if request.deadline is not None and request.deadline < self._earliest_end:
                self._late.append(request)
                continue
            self._seen.append(request)
            self._seen_rows += request.remaining
            self._reach += min(request.remaining, self._least_rows)
        granted = min(wanted, self._seen_rows) - self._granted
        self._granted += granted
        return granted

    def share_out(self, counts: dict[W, int]) -> None:
        """Adds the rows of each request to `counts`."""
        left, share = self._granted, -(-self._granted // _SHARES)
        first = [0] * len(self._seen)
        for index, request in enumerate(self._seen):
            first[index] = min(request.remaining, share, left)
            left -= first[index]
        for index, request in enumerate(self._seen):
            more = min(request.remaining - first[index], left)
            left -= more
            if first[index] + more:
                counts[request] = first[index] + more


def _tier(now: float, backlog: Backlog[W], rules: DispatchRules, *, urgent: bool) -> Iterator[W]:
    """Iterates over the urgent requests of one caller, or over the others."""

    def promoted(request: W) -> bool:
        return now - request.enqueued_at >= rules.bulk_promotion_s

    if not urgent:
        return _waiting(itertools.dropwhile(promoted, backlog.bulk))
    aged = itertools.takewhile(promoted, backlog.bulk)
    return _waiting(heapq.merge(backlog.interactive, aged, key=lambda request: request.due))


def _waiting(requests: Iterable[W]) -> Iterator[W]:
    return (each for each in requests if each.remaining)


def _feasible(requests: list[W], earliest_end: float) -> tuple[list[W], list[W]]:
    """Separates requests that can be answered in time; all count as such if none can."""
    late = [each for each in requests if each.deadline is not None and each.deadline < earliest_end]
    if not late or len(late) == len(requests):
        return requests, []
    return [each for each in requests if each.deadline is None or each.deadline >= earliest_end], late
