"""Simulates arrivals at one server on a virtual clock: pictures wait for a vision thread, faces for a batch.

The queue of faces is the server's own code: `FairQueue`, `check_admission`, `ServiceEstimate` and `decide`, called
in the order of `scheduler.batcher`. That of pictures is a simplification: first come, first served, and each
costs the same. Both stages have processors of their own. Pure: no clock, no randomness of its own.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ferserve_server.domain.caller import CallerId, CallerKind
from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, FerserveError
from ferserve_server.domain.ports import Priority
from ferserve_server.scheduler import admission
from ferserve_server.scheduler.entry import Entry
from ferserve_server.scheduler.policy import Dispatch, Executors, decide
from ferserve_server.scheduler.queue import FairQueue
from ferserve_server.scheduler.settings import BatcherSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LABEL_COUNT: Final = 7

_CROP: Final = np.zeros((1, 48, 48, 1), np.uint8)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Describes one request.

    Attributes:
        at_s: When it arrives.
        caller: Whose it is; callers share fairly.
        face_count: Faces in it, 1 or more.
        is_picture: Whether its faces must be found first.
        timeout_s: Time to its deadline, or None.
    """

    at_s: float
    caller: str
    face_count: int = 1
    is_picture: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Describes the server.

    Attributes:
        vision_threads: Pictures that are decoded and searched at once.
        picture_s: Time of one picture on a thread, in seconds.
        executors: Batches that run at once.
        batch_s: Time of a batch of so many rows, in seconds.
        settings: The batcher's.
    """

    vision_threads: int
    picture_s: float
    executors: int
    batch_s: Callable[[int], float]
    settings: BatcherSettings = field(default_factory=BatcherSettings)


@dataclass(slots=True)
class Outcome:
    """Records what became of a request. Times are seconds.

    Attributes:
        arrival: The request.
        vision_wait_s: Wait for a vision thread.
        queue_s: Wait for its last row's batch.
        latency_s: Time from its arrival to its answer, or None.
        rejection: Reason of its rejection, or "".
    """

    arrival: Arrival
    vision_wait_s: float = 0.0
    queue_s: float = 0.0
    latency_s: float | None = None
    rejection: str = ""


class _Answer:
    """Stands for the future of an entry."""

    __slots__ = ("error", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.error: FerserveError | None = None

    def done(self) -> bool:
        return self.error is not None or self.outcome.latency_s is not None

    def set_exception(self, error: FerserveError) -> None:
        self.error = error
        self.outcome.rejection = error.reason


def batch_times(faces_per_s: Mapping[int, float], executors: int) -> Callable[[int], float]:
    """Makes the time of a batch from measured rates; linear between the sizes, and beyond the largest.

    Args:
        faces_per_s: Rate of all executors together, by batch size; two sizes or more.
        executors: Batches that ran at once.
    """
    sizes = sorted(faces_per_s)
    times = [size * executors / faces_per_s[size] for size in sizes]

    def batch_s(row_count: int) -> float:
        if row_count > sizes[-1]:
            return times[-1] * row_count / sizes[-1]
        return float(np.interp(row_count, sizes, times))

    return batch_s


class Simulation:
    """Runs the requests through one server. One object, one run.

    Attributes:
        most_pictures: Largest number of pictures that waited.
        most_faces: Largest number of faces that waited.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rules = machine.settings.dispatch_rules
        self._limits = machine.settings.queue_limits(machine.executors)
        self._estimate = admission.ServiceEstimate()
        self._queue = FairQueue()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._ticket = itertools.count()
        self._pictures: list[tuple[float, Outcome]] = []
        self._busy_threads = 0
        self._started: list[float] = []
        self._waiting_batches: list[Dispatch[Entry]] = []
        self._outcomes: list[Outcome] = []
        self.most_pictures = self.most_faces = 0

    def run(self, arrivals: Iterable[Arrival]) -> list[Outcome]:
        """Runs until every request has its answer, and returns the outcomes in the order of arrival."""
        for arrival in sorted(arrivals, key=lambda each: each.at_s):
            outcome = Outcome(arrival)
            self._outcomes.append(outcome)
            step = self._picture if arrival.is_picture else self._faces
            self._at(arrival.at_s, lambda now, step=step, outcome=outcome: step(now, outcome))  # type: ignore[misc]
        while self._events:
            now, _, action = heapq.heappop(self._events)
            action(now)
        return self._outcomes

    def _at(self, when: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ticket), action))

    def _picture(self, now: float, outcome: Outcome) -> None:
        self._pictures.append((now, outcome))
        self._search(now)
        self.most_pictures = max(self.most_pictures, len(self._pictures))

    def _search(self, now: float) -> None:
        while self._pictures and self._busy_threads < self._machine.vision_threads:
            since, outcome = self._pictures.pop(0)
            outcome.vision_wait_s = now - since
            self._busy_threads += 1

            def found(at: float, outcome: Outcome = outcome) -> None:
                self._busy_threads -= 1
                self._faces(at, outcome)
                self._search(at)

            self._at(now + self._machine.picture_s, found)

    def _faces(self, now: float, outcome: Outcome) -> None:
        arrival = outcome.arrival
        deadline = None if arrival.timeout_s is None else arrival.at_s + arrival.timeout_s
        crops = np.broadcast_to(_CROP, (arrival.face_count, *_CROP.shape[1:]))
        caller = CallerId(CallerKind.CONNECTION, arrival.caller)
        answer: Any = _Answer(outcome)
        entry = Entry(crops, LABEL_COUNT, answer, Priority.INTERACTIVE, now, deadline, caller)
        own = self._queue.faces_of(caller)
        displaced = admission.displaced_requests(entry, self._queue, self._limits)
        try:
            admission.check_admission(
                face_count=arrival.face_count,
                byte_count=crops.nbytes,
                remaining_s=None if deadline is None else deadline - now,
                load=admission.Load(
                    self._queue.face_count - sum(each.remaining for each in displaced),
                    self._queue.byte_count - sum(each.crops.nbytes for each in displaced),
                    own,
                    self._queue.caller_count - (own > 0),
                    len(self._started) < self._machine.executors,
                ),
                estimate=self._estimate,
                limits=self._limits,
            )
        except FerserveError as error:
            entry.fail(error)
            return
        for each in displaced:
            self._queue.drop(each)
            each.fail(admission.faces_full_error(self._queue.face_count, self._estimate, self._limits))
        self._queue.append(entry)
        # After all that arrives at this moment, as the server's coalesced callback.
        self._at(now, self._schedule)
        self.most_faces = max(self.most_faces, self._queue.face_count)

    def _schedule(self, now: float) -> None:
        for entry in self._queue.pop_expired(now):
            self._estimate.record_answer(wasted=True)
            entry.fail(DeadlineExpiredError())
        while self._queue:
            running, ahead = len(self._started), len(self._waiting_batches)
            executors = Executors(self._machine.executors - running, ahead, running)
            service_s = self._estimate.service_s * (2 if executors.idle == 0 else 1)
            decision = decide(now, self._queue.state(), executors, self._rules, service_s)
            if not isinstance(decision, Dispatch):
                if decision.when is not None:
                    self._at(max(now, decision.when), self._schedule)
                break
            for entry in decision.late:
                self._queue.drop(entry)
                self._estimate.record_answer(wasted=True)
                entry.fail(DeadlineUnmeetableError(remaining_s=0.0, expected_s=self._estimate.service_s))
            slices = self._queue.take(decision)
            for part in slices:
                if not part.entry.remaining:
                    part.entry.queue_s = now - part.entry.enqueued_at
            if executors.idle:
                self._start(now, decision)
            else:
                self._waiting_batches.append(decision)

    def _start(self, now: float, batch: Dispatch[Entry]) -> None:
        rows = sum(count for _, count in batch.takes)
        padded = next((size for size in self._machine.settings.bucket_sizes if size >= rows), rows)
        self._started.append(now)
        self._at(now + self._machine.batch_s(padded), lambda at: self._done(at, now, batch))

    def _done(self, now: float, started_s: float, batch: Dispatch[Entry]) -> None:
        self._started.remove(started_s)
        self._estimate.record_batch(now - started_s)
        for entry, count in batch.takes:
            entry.answered += count
            if entry.answered == len(entry.crops) and not entry.done:
                outcome = entry.future.outcome  # type: ignore[attr-defined]  # an `_Answer`
                outcome.queue_s = entry.queue_s
                outcome.latency_s = now - outcome.arrival.at_s
                if entry.deadline is not None:
                    self._estimate.record_answer(wasted=entry.expired(now))
        if self._waiting_batches:
            self._start(now, self._waiting_batches.pop(0))
        self._schedule(now)
