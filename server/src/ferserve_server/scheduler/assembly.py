"""Assembles the rows of a batch in one buffer, and holds the outcome of its execution."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.scheduler.entry import Batch, Slice


class BatchOutcome:
    """Holds the outcome of a batch.

    Attributes:
        batch: The batch; its `slices` are those that were executed.
        skipped: Those that were not, because their caller had cancelled or their deadline had passed.
        scores: float32 [rows, K], padding cut off; None if the execution raised.
        error: What the execution raised.
        rejected: Reason for which the executor has failed all of its requests itself; "" if it has not.
        padded_count: Rows that were executed, padding included.
        inference_s: How long the execution took, in seconds.
        servable: The version that scored, where that need not be the batcher's own: another server chose it.
    """

    __slots__ = ("batch", "error", "inference_s", "padded_count", "rejected", "scores", "servable", "skipped")

    def __init__(self, batch: Batch, error: Exception | None = None) -> None:
        self.batch = batch
        self.skipped: list[Slice] = []
        self.scores: Scores | None = None
        self.error = error
        self.rejected = ""
        self.padded_count = 0
        self.inference_s = 0.0
        self.servable: ServableId | None = None


def drop_cancelled(outcome: BatchOutcome, now: float) -> int:
    """Drops the rows of callers that cancelled, or whose deadline passed, since the dispatch.

    Returns:
        The rows that remain.
    """
    batch = outcome.batch
    kept: list[Slice] = []
    for part in batch.slices:
        dropped = part.entry.done or part.entry.expired(now)
        (outcome.skipped if dropped else kept).append(part)
    batch.slices = kept
    return batch.row_count


def bucket_for(bucket_sizes: Sequence[int], row_count: int) -> int:
    """Returns the smallest of the rising bucket sizes that holds this many rows; there must be one."""
    return bucket_sizes[bisect.bisect_left(bucket_sizes, row_count)]


def copy_rows(batch: Batch, buffer: CropBatch) -> None:
    """Copies the rows of a batch to the beginning of a buffer, uint8 [N, H, W, 1].

    The rows of padding keep what an earlier batch left there: rows do not depend on each other.
    """
    row = 0
    for part in batch.slices:
        buffer[row : row + part.count] = part.rows
        row += part.count
