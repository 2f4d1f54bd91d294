"""Writes log records to a file descriptor on a thread of its own."""

from __future__ import annotations

import os
import select
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_MARK: Final = "\x1e"
"""First character of a framed record: the Record Separator of ASCII, as in JSON text sequences (RFC 7464)."""

DROPPED_MARK: Final = "\x1d"
"""First character of a framed line that holds the number of dropped records instead of a record."""

LINE_BREAK: Final = "\x1f"
"""Replaces a line break within a framed record, so that every record is one line."""

_MAX_QUEUED_RECORDS: Final = 2048
_MAX_RECORD_CHARACTERS: Final = 32 * 1024
"""Maximum length of a record; with `_MAX_QUEUED_RECORDS` it limits the cost of a stalled reader to 64 MiB."""

_FULL_PIPE_WAIT_S: Final = 1.0
"""Maximum wait for room in a non-blocking pipe before a record counts as dropped."""


class LogWriter:
    """Queues log records and writes them on a daemon thread.

    A reader that stalls fills the queue, a closed reader and a full disk make writes fail: records are then
    dropped and counted, and callers notice nothing.

    Thread-safety: `write` from any thread, signal handlers and finalizers included; it neither blocks nor raises.

    Attributes:
        dropped_count: Records that were dropped since the start.
    """

    def __init__(
        self,
        fd: int,
        *,
        framed: bool = False,
        report_dropped: Callable[[int], None] = lambda _: None,
        max_queued_records: int = _MAX_QUEUED_RECORDS,
    ) -> None:
        """Starts the thread.

        Args:
            fd: File descriptor to write to, blocking or not. It stays the caller's.
            framed: True if a `StderrRelay` reads at the other end, which takes framed records.
            report_dropped: Called on the thread with the number of records that were dropped before the one that
                has just been written; its report goes through `write` as any other record.
            max_queued_records: Maximum number of records that wait, because a stalled reader must not cost memory.
        """
        self.dropped_count = 0
        self._fd = fd
        self._framed = framed
        self._report_dropped = report_dropped
        self._max_queued_records = max_queued_records
        # Not Queue: its lock is not reentrant, and a finalizer may log within `put`.
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._counting = threading.RLock()  # reentrant: a finalizer may log while its thread counts
        self._unreported = 0
        self._torn = False
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def write(self, record: str) -> None:
        """Queues a record, one line or several; drops it if the queue is full."""
        if self._queue.qsize() < self._max_queued_records:
            self._queue.put(record[:_MAX_RECORD_CHARACTERS])
        else:
            self.count_dropped(1)

    def count_dropped(self, count: int) -> None:
        """Counts records that were dropped elsewhere, such as by a rate limit."""
        with self._counting:
            self.dropped_count += count
            self._unreported += count

    def flush(self, timeout_s: float) -> bool:
        """Waits until all records so far are written or dropped; returns whether that was within the time."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
            elif self._write_record(item):
                self._report()
            else:
                self.count_dropped(1)

    def _report(self) -> None:
        with self._counting:
            count, self._unreported = self._unreported, 0
        if not count:
            return
        if self._framed:
            self._write_all(f"{DROPPED_MARK}{count}\n".encode())
            return
        try:
            self._report_dropped(count)
        except Exception:  # noqa: BLE001 - a report that fails must not end the thread
            self.count_dropped(count)

    def _write_record(self, record: str) -> bool:
        if self._framed:
            record = RECORD_MARK + record.replace("\n", LINE_BREAK)
        data = (record + "\n").encode("utf-8", "replace")
        return self._write_all(b"\n" + data if self._torn else data)

    def _write_all(self, data: bytes) -> bool:
        """Writes all of it; returns False if that failed, after all or none or a part of it."""
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    if not self._wait_for_room():
                        break
        except OSError:  # the reader has closed, the disk is full, the descriptor is closed
            pass
        self._torn = 0 < len(view) < len(data) or (self._torn and len(view) == len(data))
        return not view

    def _wait_for_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(_FULL_PIPE_WAIT_S * 1e3))
