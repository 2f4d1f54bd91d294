"""Queues requests by caller, with their deadlines and sizes."""

from __future__ import annotations

import bisect
import heapq
from collections import OrderedDict
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.ports import Priority
from ferserve_server.scheduler.policy import QueueState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_server.domain.caller import CallerId
    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.scheduler.entry import Entry, Slice
    from ferserve_server.scheduler.policy import Dispatch

DUE: Final = attrgetter("due")
"""Key of the order of service of one caller's requests."""


class CallerBacklog:
    """Holds the waiting requests of one caller; see `policy.Backlog`.

    Attributes:
        caller: Whose they are.
        interactive: Those of interactive priority, by `Entry.due`.
        bulk: Those of bulk priority, oldest first.
        face_count: Their faces.
        quantum_left: See `policy.Backlog`.
    """

    __slots__ = ("bulk", "caller", "face_count", "interactive", "quantum_left")

    def __init__(self, caller: CallerId) -> None:
        self.caller = caller
        self.interactive: list[Entry] = []
        self.bulk: list[Entry] = []
        self.face_count = self.quantum_left = 0

    def add(self, entry: Entry) -> None:
        """Inserts a request in its place."""
        if entry.priority is Priority.BULK:
            self.bulk.append(entry)
        else:
            bisect.insort(self.interactive, entry, key=DUE)

    def remove(self, entry: Entry) -> None:
        """Removes a request."""
        if entry.priority is Priority.BULK:
            self.bulk.remove(entry)
            return
        # Deadlines of one moment are few; the request is among them.
        at = bisect.bisect_left(self.interactive, entry.due, key=DUE)
        del self.interactive[self.interactive.index(entry, at)]

    def newest_first(self) -> Iterator[Entry]:
        """Iterates over the requests in the order in which they lose their places, bulk first."""
        yield from reversed(self.bulk)
        yield from reversed(self.interactive)


class FairQueue:
    """Queues waiting requests by caller. Event loop only.

    Callers are served round robin: one that is served, and one that was not waiting, goes behind the others. So
    nobody waits longer than for a quantum of each other caller, whatever comes in meanwhile.
    """

    def __init__(self) -> None:
        self.face_count = 0
        self.byte_count = 0
        self._backlogs: OrderedDict[CallerId, CallerBacklog] = OrderedDict()
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._ticket = count()

    def __bool__(self) -> bool:
        return self.face_count > 0

    @property
    def caller_count(self) -> int:
        """Returns the number of callers that have requests here."""
        return len(self._backlogs)

    def state(self) -> QueueState[Entry]:
        """Describes the queue for `policy.decide`; there must be a request."""
        return QueueState(self._backlogs.values(), self.face_count, next(iter(self._entries)).enqueued_at)

    def faces_of(self, caller: CallerId) -> int:
        """Counts the faces of one caller."""
        backlog = self._backlogs.get(caller)
        return 0 if backlog is None else backlog.face_count

    def append(self, entry: Entry) -> None:
        """Inserts a request in its place."""
        backlog = self._backlogs.get(entry.caller)
        if backlog is None:
            backlog = self._backlogs[entry.caller] = CallerBacklog(entry.caller)
        backlog.add(entry)
        self._entries[entry] = None
        self._count(entry, backlog, entry.remaining)
        if entry.deadline is not None:
            heapq.heappush(self._deadlines, (entry.deadline, next(self._ticket), entry))

    def take(self, dispatch: Dispatch[Entry]) -> list[Slice]:
        """Removes the rows of a batch."""
        slices = []
        for entry, row_count in dispatch.takes:
            backlog = self._backlogs[entry.caller]
            self._count(entry, backlog, -row_count)
            slices.append(entry.take(row_count))
            if not entry.remaining:
                self._forget(entry, backlog)
        for served in dispatch.served:
            if isinstance(served, CallerBacklog) and served.face_count:
                served.quantum_left = 0
                self._backlogs.move_to_end(served.caller)
        if dispatch.interrupted is not None:
            first, rows_left = dispatch.interrupted
            if isinstance(first, CallerBacklog) and first.face_count:
                first.quantum_left = rows_left
                self._backlogs.move_to_end(first.caller, last=False)
        return slices

    def drop(self, entry: Entry) -> None:
        """Removes a whole request."""
        backlog = self._backlogs[entry.caller]
        self._count(entry, backlog, -entry.remaining)
        self._forget(entry, backlog)
        entry.taken = len(entry.crops)

    def largest_backlog(self) -> tuple[CallerId, int]:
        """Finds the caller with most faces, and their number; there must be a request."""
        caller = max(self._backlogs, key=self.faces_of)
        return caller, self.faces_of(caller)

    def newest_of(self, caller: CallerId) -> Iterator[Entry]:
        """Iterates over a caller's requests without rows in batches, the first to be displaced first."""
        return (entry for entry in list(self._backlogs[caller].newest_first()) if not entry.taken)

    def pop_expired(self, now: float) -> Iterator[Entry]:
        """Removes the requests with waiting rows whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, entry = heapq.heappop(self._deadlines)
            if entry.remaining and not entry.done:  # one that was cancelled leaves by itself
                self.drop(entry)
                yield entry

    def next_deadline(self) -> float | None:
        """Returns the next deadline of a request with waiting rows, in seconds, or None."""
        while self._deadlines and self._deadlines[0][2].remaining == 0:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def oldest_age_s(self, now: float) -> float:
        """Returns the age of the oldest waiting request, in seconds; 0 if there is none. Any thread."""
        try:
            return now - next(iter(self._entries)).enqueued_at
        except (StopIteration, RuntimeError):  # the latter if the loop changes the queue meanwhile
            return 0.0

    def fail_all(self, error: FerserveError) -> None:
        """Removes everything and fails it."""
        for entry in list(self._entries):
            self.drop(entry)
            entry.fail(error)
        self._deadlines.clear()

    def _forget(self, entry: Entry, backlog: CallerBacklog) -> None:
        backlog.remove(entry)
        del self._entries[entry]
        if not backlog.face_count:
            del self._backlogs[entry.caller]

    def _count(self, entry: Entry, backlog: CallerBacklog, row_count: int) -> None:
        backlog.face_count += row_count
        self.face_count += row_count
        self.byte_count += row_count * (entry.crops.nbytes // len(entry.crops))
