"""Executes batches on upstream servers: each is one call to the model tier, several at once.

`UpstreamServable` represents such a version to the batcher.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import structlog

from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError, UnsupportedError
from ferserve_server.domain.trace import traced_context
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.scheduler import recovery
from ferserve_server.scheduler.assembly import BatchOutcome, copy_rows, drop_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock, Priority
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, Precision, ServableId
    from ferserve_server.domain.upstream import ModelTier, TierAnswer
    from ferserve_server.scheduler.entry import Batch
    from ferserve_server.scheduler.execution import RunnerListener


class UpstreamServable:
    """Describes an upstream version; implements the part of `domain.ports.Servable` that applies here.

    Batches go through `UpstreamExecutor`. `executor_count` is how many may be under way at once.
    """

    def __init__(self, servable_id: ServableId, description: ModelDescription, executor_count: int) -> None:
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = description.precision

    def predict(self, crops: CropBatch) -> NoReturn:
        """Raises, because nothing is scored in this process.

        Raises:
            UnsupportedError: Always; so with the methods below that return something.
        """
        raise self._unsupported(crops)

    def read_golden(self, directory: Path) -> NoReturn:  # noqa: D102 - see `predict`
        raise self._unsupported(directory)

    def with_precision(self, precision: Precision) -> NoReturn:  # noqa: D102 - see `predict`
        raise self._unsupported(precision)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Does nothing: there is nothing to warm."""

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Does nothing: there is no session to prepare."""

    def close(self) -> None:
        """Does nothing: there is no memory to free."""

    def _unsupported(self, *_asked: object) -> UnsupportedError:
        return UnsupportedError(f"{self.id} runs in the model tier, not in this server.")


log = structlog.get_logger(__name__)


class UpstreamExecutor:
    """Implements `scheduler.execution.Runner` on a model tier; event loop only, but for `join`.

    A call's timeout is the longest of its requests; shorter ones are cancelled at their deadlines. A rejection by
    the tier fails the requests of the batch with the tier's own text: no row is at fault, so none is searched for.
    A batch is never run longer than `timeout_s`, so it never counts as stalled: `started_at` is not set.

    Args of the constructor:
        tier: Runs batches.
        spec: The model that they are for, by its name.
        priority: Priority of all of them.
        thread_count: Batches that are in flight at once.
        timeout_s: Maximum wait for an answer, in seconds.
        clock: The time.
        listener: Notified of results.
        answered: Receives every answer, before the listener.
        rejected: Receives the reason of every batch that was not scored.
    """

    available = True
    failing = False

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        tier: ModelTier,
        spec: ModelSpec,
        priority: Priority,
        *,
        thread_count: int,
        timeout_s: float,
        clock: Clock,
        listener: RunnerListener,
        answered: Callable[[TierAnswer], None],
        rejected: Callable[[str], None],
    ) -> None:
        self._tier = tier
        self._spec = spec
        self._priority = priority
        self.thread_count = thread_count
        self._timeout_s = timeout_s
        self._clock = clock
        self._listener = listener
        self._answered = answered
        self._rejected = rejected
        self._queue: deque[Batch] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False
        self._ended = threading.Event()

    def submit(self, batch: Batch) -> None:
        """Appends a batch to the queue."""
        self._queue.append(batch)
        self._send_queued()

    def poll(self) -> None:
        """Does nothing: answers notify the event loop."""

    def replace_stalled(self) -> None:
        """Does nothing: no batch stalls here."""

    def close(self) -> None:
        """Ends once its batches are answered. Does not wait."""
        self._closing = True
        self._end_if_done()

    def join(self, timeout_s: float) -> None:
        """Waits, after `close`, until the last batch is answered, for a bounded time. Blocking; any thread."""
        self._ended.wait(timeout_s)

    def _send_queued(self) -> None:
        while self._queue and len(self._running) < self.thread_count:
            batch = self._queue.popleft()
            # Also without a span: who submits may be running for another batch.
            context = traced_context(() if batch.span is None else (batch.span,))
            task = asyncio.get_running_loop().create_task(self._run(batch), context=context)
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._send_queued()
        self._end_if_done()

    async def _run(self, batch: Batch) -> None:
        outcome = BatchOutcome(batch)
        started_at = self._clock.now()
        if drop_cancelled(outcome, started_at):
            try:
                await self._score(outcome, started_at)
            except FerserveError as error:
                self._reject(outcome, error)
            except Exception:
                log.exception("batch failed", servable=str(self._spec), faces=batch.row_count)
                self._reject(outcome, FerserveError("The server failed on this call. Its log tells more."))
        self._listener.on_batch_done(outcome)

    async def _score(self, outcome: BatchOutcome, started_at: float) -> None:
        crops = gathered_rows(outcome.batch)
        remaining_s = longest_remaining_s(outcome.batch, started_at)
        in_time = remaining_s is not None and remaining_s <= self._timeout_s
        timeout_s = remaining_s if remaining_s is not None and in_time else self._timeout_s
        try:
            answer = await self._tier.classify(crops, self._spec, self._priority, timeout_s)
        except DeadlineExpiredError:
            if in_time:
                raise
            raise UpstreamUnavailableError(f"no answer within {self._timeout_s:g} s", retry_safe=False) from None
        if len(answer.scores) != len(crops):
            raise ValueError(f"{answer.servable} answered {len(crops)} faces with {len(answer.scores)} results")
        outcome.scores, outcome.servable = answer.scores, answer.servable
        outcome.padded_count = len(crops)
        outcome.inference_s = self._clock.now() - started_at
        self._answered(answer)

    def _reject(self, outcome: BatchOutcome, error: FerserveError) -> None:
        outcome.rejected = error.reason
        self._rejected(error.reason)
        recovery.fail_requests(outcome.batch, error)

    def _end_if_done(self) -> None:
        if self._closing and not self._running and not self._queue:
            self._ended.set()


def gathered_rows(batch: Batch) -> CropBatch:
    """Concatenates the rows of a batch, uint8 [N, H, W, 1]; not copied if they are one request's."""
    if len(batch.slices) == 1:
        return batch.slices[0].rows
    crops = np.empty((batch.row_count, *batch.slices[0].rows.shape[1:]), np.uint8)
    copy_rows(batch, crops)
    return crops


def longest_remaining_s(batch: Batch, now: float) -> float | None:
    """Computes the time until a batch's last request expires, in seconds; None if one has no deadline."""
    longest_s = 0.0
    for part in batch.slices:
        if part.entry.deadline is None:
            return None
        longest_s = max(longest_s, part.entry.deadline - now)
    return longest_s
