"""Defines the requests in the batcher, and the batches that carry their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.domain.upstream_errors import VersionChangedError

if TYPE_CHECKING:
    import asyncio

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import DispatchReason, Priority
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.domain.trace import SpanRef

_PATIENCE_S: Final = 1.0
"""Age at which a request is as urgent as one whose deadline is now, in seconds."""


@dataclass(slots=True, eq=False)
class Entry:
    """Holds one request: its rows, and their results so far. Event loop only, except `done`.

    Attributes:
        crops: uint8 [N, H, W, 1].
        label_count: Columns of its scores.
        future: Where the caller waits.
        priority: How urgent it is.
        enqueued_at: When it was accepted, in seconds.
        deadline: When the answer must be there, in seconds, or None.
        caller: Whose it is.
        taken: Rows that went into batches, always the first ones.
        answered: Rows that came back, as scores or as failures.
        spans: Spans of the call, if it is sampled.
        servable: The version that scored the first rows that came back, where another server chose it.
        mixed: Whether it chose another version for further rows. These are not kept.
    """

    crops: CropBatch
    label_count: int
    future: asyncio.Future[ScoredFaces]
    priority: Priority
    enqueued_at: float
    deadline: float | None = None
    caller: CallerId = UNKNOWN_CALLER
    spans: tuple[SpanRef, ...] = ()
    taken: int = 0
    answered: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0
    scores: Scores | None = None
    failures: dict[int, FerserveError] = field(default_factory=dict)
    servable: ServableId | None = None
    mixed: bool = False

    @property
    def due(self) -> float:
        """Returns the time that orders the requests of one caller, in seconds.

        It is the deadline, but no later than `_PATIENCE_S` after the arrival, so that requests with little time do
        not starve the others.
        """
        patient_until = self.enqueued_at + _PATIENCE_S
        return patient_until if self.deadline is None else min(self.deadline, patient_until)

    @property
    def remaining(self) -> int:
        """Returns the number of rows not yet in a batch."""
        return len(self.crops) - self.taken

    @property
    def done(self) -> bool:
        """Returns True once it is answered, failed or cancelled. Safe from any thread."""
        return self.future.done()

    def expired(self, now: float) -> bool:
        """Returns whether its deadline has passed."""
        return self.deadline is not None and now >= self.deadline

    def take(self, count: int) -> Slice:
        """Moves the next `count` rows into a batch."""
        part = Slice(self, self.taken, count)
        self.taken += count
        return part

    def answer(self, start: int, scores: Scores, servable: ServableId | None = None) -> None:
        """Stores the scores, float32 [n, K], of the rows from `start` on, and the version that made them."""
        if self.servable is None:
            self.servable = servable
        if self.servable != servable:
            self.mixed = True
        elif len(scores) == len(self.crops):
            self.scores = scores
        else:
            if self.scores is None:
                self.scores = np.zeros((len(self.crops), scores.shape[1]), np.float32)
            self.scores[start : start + len(scores)] = scores
        self._count_answered(len(scores))

    def fail_row(self, row: int, error: FerserveError) -> None:
        """Stores the reason for which one row has no scores."""
        self.failures[row] = error
        self._count_answered(1)

    def fail(self, error: FerserveError) -> None:
        """Fails the whole request."""
        if not self.future.done():
            self.future.set_exception(error)

    def _count_answered(self, count: int) -> None:
        self.answered += count
        if self.answered < len(self.crops) or self.future.done():
            return
        if self.mixed and self.servable is not None:
            self.future.set_exception(VersionChangedError(self.servable))
            return
        scores = np.zeros((len(self.crops), self.label_count), np.float32) if self.scores is None else self.scores
        faces = ScoredFaces(scores, self.failures, self.queue_s, self.inference_s, self.servable)
        self.future.set_result(faces)


@dataclass(slots=True, eq=False)
class Slice:
    """Names `count` rows of an entry, from `start` on."""

    entry: Entry
    start: int
    count: int

    @property
    def rows(self) -> CropBatch:
        """Returns the rows, uint8 [count, H, W, 1], not copied."""
        return self.entry.crops[self.start : self.start + self.count]


@dataclass(slots=True)
class Attempts:
    """Counts the executions of a failed batch and of its halves."""

    failed: int = 0
    succeeded: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Holds rows that run together.

    Attributes:
        slices: The rows, in order.
        reason: Why it was dispatched.
        dispatched_at: When it was dispatched, in seconds.
        attempts: Shared by all parts of a batch that failed.
        started_at: When an executor took it, in seconds; None before. Written by the executor's thread.
        abandoned: Set when the executor that holds it is given up; what it returns is then ignored.
        span: Its span, if it has sampled rows.
    """

    slices: list[Slice]
    reason: DispatchReason
    dispatched_at: float
    attempts: Attempts = field(default_factory=Attempts)
    started_at: float | None = None
    abandoned: bool = False
    span: SpanRef | None = None

    @property
    def row_count(self) -> int:
        """Returns the number of its rows."""
        return sum(part.count for part in self.slices)

    def halves(self, reason: DispatchReason) -> tuple[Batch, Batch]:
        """Splits it in two, to bisect for a failing row. It must hold two rows or more."""
        left: list[Slice] = []
        right: list[Slice] = []
        room = self.row_count // 2
        for part in self.slices:
            head = min(part.count, room)
            if head:
                left.append(Slice(part.entry, part.start, head))
            if head < part.count:
                right.append(Slice(part.entry, part.start + head, part.count - head))
            room -= head
        return Batch(left, reason, self.dispatched_at, self.attempts), Batch(
            right, reason, self.dispatched_at, self.attempts
        )
