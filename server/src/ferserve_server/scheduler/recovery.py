"""Scatters scores to their requests, and decides how to recover when an execution fails or hangs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, InferenceFailedError
from ferserve_server.domain.ports import DispatchReason, Priority
from ferserve_server.scheduler.entry import Batch, Entry

if TYPE_CHECKING:
    import asyncio

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import ModelDescription, ServableId
    from ferserve_server.scheduler.queue import FairQueue


def worth_bisecting(batch: Batch, largest_batch: int) -> bool:
    """Decides whether a failed batch is retried in halves, to find the failing row.

    One bad row in n costs log2(n) failed runs, and as many good ones beside them. Twice as many failures without a
    single success are not one bad row: the engine is broken, and 2n more runs would only keep it from others.
    """
    crash_looping = batch.attempts.succeeded == 0 and batch.attempts.failed > 2 * math.ceil(
        math.log2(largest_batch + 1)
    )
    return batch.row_count > 1 and not crash_looping


def stalled(batch: Batch, now: float, execution_timeout_s: float) -> bool:
    """Returns whether a batch has run longer than `execution_timeout_s`."""
    return batch.started_at is not None and now - batch.started_at >= execution_timeout_s


def scatter(batch: Batch, scores: Scores, inference_s: float, servable: ServableId | None = None) -> None:
    """Scatters scores to the requests of a batch; rows that are no numbers fail, each alone.

    Args:
        batch: What was executed.
        scores: float32 [rows of the batch, K].
        inference_s: How long the execution took, in seconds.
        servable: The version that scored, where another server chose it.
    """
    finite = np.isfinite(scores)
    all_finite = bool(finite.all())
    row = 0
    for part in batch.slices:
        entry = part.entry
        entry.inference_s = max(entry.inference_s, inference_s)
        if all_finite:
            entry.answer(part.start, scores[row : row + part.count], servable)
        else:
            for offset in range(part.count):
                if finite[row + offset].all():
                    entry.answer(part.start + offset, scores[row + offset : row + offset + 1], servable)
                else:
                    entry.fail_row(part.start + offset, InferenceFailedError())
        row += part.count


def fail_rows(batch: Batch) -> None:
    """Fails every row of a batch that will not be retried."""
    for part in batch.slices:
        for row in range(part.start, part.start + part.count):
            part.entry.fail_row(row, InferenceFailedError())


def fail_requests(batch: Batch, error: FerserveError, queue: FairQueue | None = None) -> None:
    """Fails all requests with rows in a batch that got no answer at all, and drops their rows in the queue."""
    for part in batch.slices:
        part.entry.fail(error)
        if queue is not None and part.entry.remaining:
            queue.drop(part.entry)


def probe(description: ModelDescription, future: asyncio.Future[ScoredFaces], now: float) -> Batch:
    """Makes a batch of one blank face, to find out whether an engine answers."""
    blank = description.input.blank(1)
    entry = Entry(blank, description.score_column_count, future, Priority.INTERACTIVE, now)
    return Batch([entry.take(1)], DispatchReason.EXECUTOR_IDLE, now)


def rejected_in_queue(entry: Entry) -> bool:
    """Returns whether a request lost its place for its deadline before its caller's timer fired."""
    future = entry.future
    error = future.exception() if future.done() and not future.cancelled() else None
    return isinstance(error, DeadlineExpiredError | DeadlineUnmeetableError)
