"""Executes batches: the port that a batcher uses, and its implementation on threads of this process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ferserve_server.scheduler.assembly import BatchOutcome, bucket_for, copy_rows, drop_cancelled
from ferserve_server.scheduler.worker_pool import LifoWorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock, Servable
    from ferserve_server.scheduler.entry import Batch


class RunnerListener(NamedTuple):
    """Receives the callbacks of a runner, on the event loop.

    Attributes:
        on_batch_done: Gets the outcome of every batch that was submitted; never called from within `submit`.
        on_runner_change: Called when `available` or `failing` has changed.
    """

    on_batch_done: Callable[[BatchOutcome], None]
    on_runner_change: Callable[[], None]


class Runner(Protocol):
    """Runs batches of one servable. Event loop only, but for `join`.

    Attributes:
        thread_count: Batches that run at once.
        available: Whether batches are run now. If not, its engine is being restarted; what is submitted waits.
        failing: Whether the engine is down and is not expected back soon: nothing should wait for it.
    """

    thread_count: int
    available: bool
    failing: bool

    def submit(self, batch: Batch) -> None:
        """Appends a batch to the queue. Its `started_at` is set when an executor takes it."""

    def poll(self) -> None:
        """Reports the finished batches now, without waiting for the event loop."""

    def replace_stalled(self) -> None:
        """Replaces an executor that hangs with a batch, which was marked abandoned."""

    def close(self) -> None:
        """Ends the executors once the queue is empty, and then closes the servable. Does not wait."""

    def join(self, timeout_s: float) -> None:
        """Waits, after `close`, until the servable is closed, for a limited time. Blocking; any thread."""


class RunnerMaker(Protocol):
    """Makes the runner of a batcher, on that batcher's event loop."""

    def __call__(
        self, servable: Servable, bucket_sizes: Sequence[int], clock: Clock, listener: RunnerListener
    ) -> Runner:
        """Makes a runner.

        Args:
            servable: What to run, `servable.executor_count` batches at once.
            bucket_sizes: Sizes that batches are padded to, rising.
            clock: The time.
            listener: Receives the callbacks.
        """


class ThreadRunner:
    """Executes batches of one queue on a few threads of this process; see `Runner`.

    Each thread owns one preallocated buffer of the largest bucket. A thread that hangs cannot be stopped;
    `replace_stalled` leaves it behind, to end if it ever returns, and starts another in its place.
    """

    available = True
    failing = False

    def __init__(
        self, servable: Servable, bucket_sizes: Sequence[int], clock: Clock, listener: RunnerListener
    ) -> None:
        self._servable = servable
        self._bucket_sizes = list(bucket_sizes)
        self._clock = clock
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._work_queue: LifoWorkQueue[Batch] = LifoWorkQueue()
        self.thread_count = servable.executor_count
        self._working = self.thread_count
        self._ended = threading.Event()
        self._lock = threading.Lock()
        for _ in range(self.thread_count):
            self._start_thread()

    def submit(self, batch: Batch) -> None:
        """Appends a batch to the queue."""
        self._work_queue.put(batch)

    def poll(self) -> None:
        """Does nothing: the threads notify the event loop."""

    def replace_stalled(self) -> None:
        """Starts a thread in place of one that hangs; that one ends if it ever returns."""
        self._start_thread()

    def close(self) -> None:
        """Ends the threads once the queue is empty; the last one closes the servable. Does not wait."""
        for _ in range(self.thread_count):
            self._work_queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Waits, after `close`, until the servable is closed; not for threads that hang. Blocking; any thread."""
        self._ended.wait(timeout_s)

    def _start_thread(self) -> None:
        # Daemons: one that hangs must not keep the process from ending.
        name = f"infer-{self._servable.id}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        buffer = self._servable.description.input.blank(self._bucket_sizes[-1])
        while (batch := self._work_queue.get()) is not None:
            outcome = BatchOutcome(batch)
            batch.started_at = started_at = self._clock.now()
            try:
                self._run(outcome, buffer, started_at)
            except Exception as error:  # noqa: BLE001 - the batcher finds the row at fault and logs
                outcome.error = error
            outcome.inference_s = self._clock.now() - started_at
            if batch.abandoned:
                return  # another thread has taken this one's place
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._listener.on_batch_done, outcome)
        with self._lock:
            self._working -= 1
            last = self._working == 0
        if last:
            try:
                self._servable.close()
            finally:
                self._ended.set()

    def _run(self, outcome: BatchOutcome, buffer: CropBatch, now: float) -> None:
        row_count = drop_cancelled(outcome, now)
        if row_count == 0:
            return
        batch = outcome.batch
        bucket = outcome.padded_count = bucket_for(self._bucket_sizes, row_count)
        if len(batch.slices) == 1 and row_count == bucket:
            crops = batch.slices[0].rows  # one request fills the bucket: no copy
        else:
            copy_rows(batch, buffer)
            crops = buffer[:bucket]
        outcome.scores = self._servable.predict(crops)[:row_count]
