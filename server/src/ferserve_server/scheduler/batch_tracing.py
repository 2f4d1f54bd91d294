"""Reports batches with sampled rows to a tracer. Batches without pay one look at each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.trace import BatchMember, TracedBatch

if TYPE_CHECKING:
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.domain.trace import BatchTracer
    from ferserve_server.scheduler.assembly import BatchOutcome
    from ferserve_server.scheduler.entry import Batch, Entry


class BatchTracing:
    """Gives batches spans, and records them when they were executed. Event loop only.

    Args of the constructor:
        tracer: Records; None: nothing is traced.
        servable: The version that the batcher is for.
        clock: The time.
    """

    def __init__(self, tracer: BatchTracer | None, servable: ServableId, clock: Clock) -> None:
        self._tracer = tracer
        self._servable = servable
        self._clock = clock

    def begin(self, batch: Batch) -> None:
        """Gives a batch a span if one of its requests is sampled; before it is executed."""
        if self._tracer is not None and any(part.entry.spans for part in batch.slices):
            batch.span = self._tracer.new_batch()

    def executed(self, outcome: BatchOutcome) -> None:
        """Records a batch that was executed, or whose execution failed, if it has a span."""
        batch = outcome.batch
        if batch.span is None or self._tracer is None or not batch.slices:
            return
        now = self._clock.now()
        started_at = batch.started_at
        if started_at is None:  # a runner that only tells how long it took
            started_at = max(batch.dispatched_at, now - outcome.inference_s)
        self._tracer.batch_executed(
            TracedBatch(
                batch.span,
                outcome.servable or self._servable,
                batch.reason.value,
                batch.row_count,
                outcome.padded_count,
                batch.dispatched_at,
                started_at,
                min(now, started_at + outcome.inference_s) if outcome.scores is not None else now,
                now,
                [
                    BatchMember(part.entry.spans, part.entry.enqueued_at if part.start == 0 else None, part.count)
                    for part in batch.slices
                    if part.entry.spans
                ],
                outcome.rejected or _reason(outcome.error),
            )
        )

    def left_queue(self, entry: Entry, reason: str) -> None:
        """Records the wait of a request that was rejected in the queue, if it is sampled."""
        if self._tracer is not None and entry.spans:
            self._tracer.left_queue(entry.spans, entry.enqueued_at, reason)


def log_fields(batch: Batch) -> dict[str, str]:
    """Returns the trace of a batch as a field for its log records; empty if it is not sampled."""
    return {} if batch.span is None else {"trace_id": batch.span.trace_id_hex}


def _reason(error: Exception | None) -> str:
    if error is None:
        return ""
    return error.reason if isinstance(error, FerserveError) else type(error).__name__
