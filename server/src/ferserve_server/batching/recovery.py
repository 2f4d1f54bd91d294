"""What to do when an execution fails, hangs, or returns nonsense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import InferenceFailedError

if TYPE_CHECKING:
    from ferserve_server.batching.entry import Batch, Slice
    from ferserve_server.domain.face import Scores


def worth_halving(batch: Batch, largest_batch: int) -> bool:
    """Whether a failed batch is tried again in halves, to find the row at fault.

    One bad row in n costs log2(n) failed runs, and as many good ones beside them. Twice as many failures without a
    single success are not one bad row: the engine is broken, and 2n more runs would only keep it from others.
    """
    hopeless = batch.attempts.succeeded == 0 and batch.attempts.failed > 2 * math.ceil(
        math.log2(largest_batch + 1)
    )
    return batch.row_count > 1 and not hopeless


def stalled(batch: Batch, now: float, execution_timeout_s: float) -> bool:
    """Whether a batch has run, in seconds, longer than it may."""
    return batch.started_at is not None and now - batch.started_at >= execution_timeout_s


def answer_finite_rows(part: Slice, scores: Scores) -> None:
    """Answers the rows whose scores are numbers and fails the others, each alone.

    Args:
        part: The rows.
        scores: float32 [part.count, K], some of it NaN or infinite.
    """
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    for offset in range(part.count):
        if finite[offset]:
            part.entry.answer(part.start + offset, scores[offset : offset + 1])
        else:
            part.entry.fail_row(part.start + offset, InferenceFailedError())
