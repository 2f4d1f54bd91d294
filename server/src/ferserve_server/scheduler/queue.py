"""What waits, oldest first, with its deadlines and its size."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.scheduler.entry import Entry, Slice


class EntryQueue:
    """Requests that wait, oldest first. Event loop only.

    Requests that leave stay in place with no rows remaining until they come to the front, so leaving costs O(1).
    """

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.face_count = 0
        self.byte_count = 0
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._ticket = count()

    def __bool__(self) -> bool:
        return self.face_count > 0

    def append(self, entry: Entry) -> None:
        """Puts a request at the end."""
        self.entries.append(entry)
        self._count(entry, entry.remaining)
        if entry.deadline is not None:
            heapq.heappush(self._deadlines, (entry.deadline, next(self._ticket), entry))

    def take(self, row_counts: Sequence[int]) -> list[Slice]:
        """Takes `row_counts[i]` rows of the i-th request out."""
        slices = []
        unfinished = []
        for row_count in row_counts:
            entry = self.entries.popleft()
            if row_count:
                self._count(entry, -row_count)
                slices.append(entry.take(row_count))
            if entry.remaining:
                unfinished.append(entry)
        self.entries.extendleft(reversed(unfinished))
        return slices

    def drop(self, entry: Entry) -> None:
        """Takes a whole request out, wherever it stands."""
        self._count(entry, -entry.remaining)
        entry.taken = len(entry.crops)
        while self.entries and self.entries[0].remaining == 0:
            self.entries.popleft()

    def pop_expired(self, now: float) -> Iterator[Entry]:
        """Takes out the requests with waiting rows whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, entry = heapq.heappop(self._deadlines)
            if entry.remaining:
                self.drop(entry)
                yield entry

    def next_deadline(self) -> float | None:
        """The next deadline of a request with waiting rows, in seconds, or None."""
        while self._deadlines and self._deadlines[0][2].remaining == 0:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def oldest_age_s(self, now: float) -> float:
        """Age of the oldest request that waits, in seconds; 0 if none does. Any thread."""
        try:
            return now - self.entries[0].enqueued_at
        except IndexError:
            return 0.0

    def fail_all(self, error: FerserveError) -> None:
        """Takes everything out and fails it."""
        for entry in self.entries:
            if entry.remaining:
                self._count(entry, -entry.remaining)
                entry.taken = len(entry.crops)
                entry.fail(error)
        self.entries.clear()
        self._deadlines.clear()

    def _count(self, entry: Entry, row_count: int) -> None:
        self.face_count += row_count
        self.byte_count += row_count * (entry.crops.nbytes // len(entry.crops))
