"""Runs batches on threads: gathers rows into a bucket, executes, hands the scores back."""

from __future__ import annotations

import bisect
import threading
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.batching.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.batching.entry import Batch, Slice
    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Clock, Servable


class BatchOutcome:
    """What became of a batch.

    Attributes:
        batch: The batch; its `slices` are those that were executed.
        skipped: Those that were not, because their caller had left or their deadline had passed.
        scores: float32 [rows, K], padding cut off; None if the execution raised.
        error: What the execution raised.
        padded_count: Rows that were executed, padding included.
        inference_s: How long the execution took, in seconds.
    """

    __slots__ = ("batch", "error", "inference_s", "padded_count", "scores", "skipped")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.skipped: list[Slice] = []
        self.scores: Scores | None = None
        self.error: Exception | None = None
        self.padded_count = 0
        self.inference_s = 0.0


class ThreadRunner:
    """A few threads that take batches from one line.

    Each thread owns one preallocated buffer of the largest bucket. Rows of callers that left, or whose deadline
    passed, since the cut are not executed. A thread that hangs cannot be stopped; `replace_stalled` leaves it
    behind and starts another in its place.

    Thread-safety: `submit`, `replace_stalled` and `close` from one thread, here the event loop's; `deliver` is
    called on the runner's threads.
    """

    def __init__(
        self,
        servable: Servable,
        bucket_sizes: Sequence[int],
        clock: Clock,
        deliver: Callable[[BatchOutcome], None],
    ) -> None:
        """Starts the threads.

        Args:
            servable: What to run, on `servable.executor_count` threads.
            bucket_sizes: Sizes that batches are padded to, rising.
            clock: The time.
            deliver: Gets the outcome of every batch that was submitted.
        """
        self._servable = servable
        self._bucket_sizes = list(bucket_sizes)
        self._clock = clock
        self._deliver = deliver
        self._line: Line[Batch] = Line()
        self.thread_count = servable.executor_count
        self._working = self.thread_count
        self._ended = threading.Event()
        self._lock = threading.Lock()
        for _ in range(self.thread_count):
            self._start_thread()

    def submit(self, batch: Batch) -> None:
        """Puts a batch at the end of the line."""
        self._line.put(batch)

    def replace_stalled(self) -> None:
        """Starts a thread in the place of one that hangs; that one ends if it ever returns."""
        self._start_thread()

    def close(self) -> None:
        """Tells the threads to end once the line is empty; the last one closes the servable. Does not wait."""
        for _ in range(self.thread_count):
            self._line.put(None)

    def join(self, timeout_s: float) -> None:
        """Waits, after `close`, until the servable is closed; not for threads that hang. Blocking; any thread."""
        self._ended.wait(timeout_s)

    def _start_thread(self) -> None:
        # Daemons: one that hangs must not keep the process from ending.
        name = f"infer-{self._servable.id}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        spec = self._servable.description.input
        buffer = np.zeros((self._bucket_sizes[-1], spec.height, spec.width, 1), np.uint8)
        while (batch := self._line.get()) is not None:
            outcome = BatchOutcome(batch)
            batch.started_at = started_at = self._clock.now()
            try:
                self._run(outcome, buffer, started_at)
            except Exception as error:  # noqa: BLE001 - the batcher finds the row at fault and logs
                outcome.error = error
            outcome.inference_s = self._clock.now() - started_at
            if batch.abandoned:
                return  # another thread has taken this one's place
            self._deliver(outcome)
        with self._lock:
            self._working -= 1
            last = self._working == 0
        if last:
            self._servable.close()
            self._ended.set()

    def _run(self, outcome: BatchOutcome, buffer: CropBatch, now: float) -> None:
        batch = outcome.batch
        wanted: list[Slice] = []
        for part in batch.slices:
            unwanted = part.entry.done or part.entry.expired(now)
            (outcome.skipped if unwanted else wanted).append(part)
        batch.slices = wanted
        row_count = batch.row_count
        if row_count == 0:
            return
        bucket = self._bucket_sizes[bisect.bisect_left(self._bucket_sizes, row_count)]
        outcome.padded_count = bucket
        first = batch.slices[0]
        if len(batch.slices) == 1 and row_count == bucket:
            crops = first.rows  # one request fills the bucket: no copy
        else:
            # The rows of padding keep what an earlier batch left there; rows do not depend on each other.
            row = 0
            for part in batch.slices:
                buffer[row : row + part.count] = part.rows
                row += part.count
            crops = buffer[:bucket]
        outcome.scores = self._servable.predict(crops)[:row_count]
