"""Counts requests of each version, cumulatively and over all processes, as clients of other servers query them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ferserve_server.domain.servable import ServableId, ServableState
from ferserve_server.workers.json_codec import read_value, write_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.ports import ExecutedBatch


@dataclass(slots=True)
class Span:
    """Counts an event and sums its durations."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one event."""
        self.count += 1
        self.seconds += max(0.0, seconds)

    @property
    def ns(self) -> int:
        """Returns the time in nanoseconds."""
        return round(self.seconds * 1e9)


@dataclass(slots=True)
class VersionCounts:
    """Holds the counts of one version since it was loaded.

    Attributes:
        face_count: Faces of executed batches, of all callers.
        batches: Executed batches and their time, by their number of faces.
        success: Answered requests of the interfaces that are counted here. Each adds one to `queue`, `input`,
            `inference` and `output` as well, so these five counts are always the same.
        fail: Requests that were not answered.
        last_at_s: When the last batch came back, in seconds since 1970; 0: none did.
    """

    face_count: int = 0
    batches: dict[int, Span] = field(default_factory=dict)
    success: Span = field(default_factory=Span)
    fail: Span = field(default_factory=Span)
    queue: Span = field(default_factory=Span)
    input: Span = field(default_factory=Span)
    inference: Span = field(default_factory=Span)
    output: Span = field(default_factory=Span)
    last_at_s: float = 0.0


class RequestStatistics(Protocol):
    """Counts requests. Event loop only; must not raise or block."""

    def answered(
        self,
        servable: ServableId,
        *,
        total_s: float,
        queue_s: float,
        input_s: float,
        inference_s: float,
        output_s: float,
    ) -> None:
        """Counts a request that was answered, with the parts of its time in seconds."""

    def failed(self, servable: ServableId, total_s: float) -> None:
        """Counts a request that was not answered."""


class ServiceStatistics(RequestStatistics, Protocol):
    """Counts requests, and reports the counts of the whole service. Event loop only."""

    async def counts_of(self, servables: Sequence[ServableId]) -> list[VersionCounts]:
        """Returns the counts of each version, all 0 if nothing happened."""


class Statistics:
    """Keeps the counts. Implements `domain.ports.InferenceObserver` and `ServiceStatistics`.

    Event loop only, and no method awaits: what `of` returns is one moment's counts.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._counts: dict[ServableId, VersionCounts] = {}

    def of(self, servable: ServableId) -> VersionCounts:
        """Returns the counts of a version, all 0 if nothing happened."""
        return self._counts.get(servable) or VersionCounts()

    async def counts_of(self, servables: Sequence[ServableId]) -> list[VersionCounts]:
        """See `ServiceStatistics`."""
        return [self.of(servable) for servable in servables]

    def answered(
        self,
        servable: ServableId,
        *,
        total_s: float,
        queue_s: float,
        input_s: float,
        inference_s: float,
        output_s: float,
    ) -> None:
        """See `RequestStatistics`."""
        counts = self._at(servable)
        counts.success.add(total_s)
        counts.queue.add(queue_s)
        counts.input.add(input_s)
        counts.inference.add(inference_s)
        counts.output.add(output_s)

    def failed(self, servable: ServableId, total_s: float) -> None:
        """See `RequestStatistics`."""
        self._at(servable).fail.add(total_s)

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Counts a batch; see `domain.ports.InferenceObserver`."""
        counts, face_count = self._at(batch.servable), len(batch.scores)
        counts.face_count += face_count
        span = counts.batches.get(face_count)
        if span is None:
            span = counts.batches[face_count] = Span()
        span.add(batch.inference_s)
        counts.last_at_s = self._wall_clock()

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Counts nothing: the requests are counted."""

    def rejected(self, reason: str) -> None:
        """Counts nothing: the requests are counted."""

    def cancelled(self, stage: str) -> None:
        """Counts nothing: the requests are counted."""

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Forgets a version that was unloaded."""
        if state is ServableState.UNLOADED:
            self._counts.pop(servable, None)

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Does nothing: counts belong to versions, whatever leads to them."""

    def _at(self, servable: ServableId) -> VersionCounts:
        counts = self._counts.get(servable)
        if counts is None:
            counts = self._counts[servable] = VersionCounts()
        return counts


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ferserve_server.workers.json_codec import Json

COUNTED: Final = "statistics"
"""Name of the notification that requests were counted, and of the request for the counts."""


class RemoteStatistics:
    """Accesses counts that another process keeps. Implements `ServiceStatistics`. Event loop only.

    Args of the constructor:
        notify: Sends what was counted.
        call: Asks for the counts.
    """

    def __init__(
        self, notify: Callable[[str, object], None], call: Callable[[str, object], Awaitable[Json]]
    ) -> None:
        self._notify = notify
        self._call = call
        self._pending: list[list[object]] = []

    def answered(
        self,
        servable: ServableId,
        *,
        total_s: float,
        queue_s: float,
        input_s: float,
        inference_s: float,
        output_s: float,
    ) -> None:
        """See `statistics.RequestStatistics`."""
        self._pending.append([servable.name, servable.version, total_s, queue_s, input_s, inference_s, output_s])

    def failed(self, servable: ServableId, total_s: float) -> None:
        """See `statistics.RequestStatistics`."""
        self._pending.append([servable.name, servable.version, total_s])

    def flush(self) -> None:
        """Sends the counts since the last flush."""
        if self._pending:
            self._notify(COUNTED, self._pending)
            self._pending = []

    async def counts_of(self, servables: Sequence[ServableId]) -> list[VersionCounts]:
        """See `ServiceStatistics`. The counts of other processes arrive within a fraction of a second."""
        self.flush()
        answer = await self._call(COUNTED, write_value(tuple(servables)))
        return [read_value(form, VersionCounts) for form in answer]


def add_counts(statistics: Statistics, rows: Json) -> None:
    """Adds the counts that `RemoteStatistics` sent."""
    for name, version, total_s, *parts in rows:
        servable = ServableId(name, version)
        if not parts:
            statistics.failed(servable, total_s)
            continue
        queue_s, input_s, inference_s, output_s = parts
        statistics.answered(
            servable,
            total_s=total_s,
            queue_s=queue_s,
            input_s=input_s,
            inference_s=inference_s,
            output_s=output_s,
        )


async def answer_counts(statistics: Statistics, servables: Json) -> object:
    """Answers a request of `RemoteStatistics` for counts."""
    counts = await statistics.counts_of(read_value(servables, tuple[ServableId, ...]))
    return write_value(counts)
