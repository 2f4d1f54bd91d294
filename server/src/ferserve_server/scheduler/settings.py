"""Defines the settings of a batcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ferserve_server.scheduler.admission import QueueLimits
from ferserve_server.scheduler.policy import DispatchRules

BUCKET_SIZES: Final = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
"""Sizes to choose from, in faces: of a batch of more than 8, at most a quarter is padding."""


@dataclass(frozen=True, slots=True)
class BatcherSettings:
    """Holds the settings of a batcher.

    Attributes:
        bucket_sizes: Sizes that batches are padded to, rising, 1 or more each.
        max_queue_faces: Faces that may wait.
        max_queue_faces_per_caller: Those of one caller; 0: no limit of its own.
        max_queue_bytes: Bytes of crops that may wait.
        max_queue_delay_s: See `policy.DispatchRules`.
        bulk_promotion_s: See `policy.DispatchRules`.
        execution_timeout_s: A batch that runs longer is failed and its thread replaced.
        hold_until_queued: Dispatch the first batch not before this many faces wait. 0 but in tests.
        min_concurrent_rows: See `policy.DispatchRules`.
    """

    bucket_sizes: tuple[int, ...] = BUCKET_SIZES
    max_queue_faces: int = 4096
    max_queue_faces_per_caller: int = 0
    max_queue_bytes: int = 64 * 2**20
    max_queue_delay_s: float = 0.0
    bulk_promotion_s: float = 0.25
    execution_timeout_s: float = 30.0
    hold_until_queued: int = 0
    min_concurrent_rows: int = 0

    @property
    def dispatch_rules(self) -> DispatchRules:
        """Returns the parameters of the policy."""
        return DispatchRules(
            self.bucket_sizes[-1],
            self.max_queue_delay_s,
            self.bulk_promotion_s,
            self.hold_until_queued,
            self.min_concurrent_rows,
        )

    def queue_limits(self, executor_count: int) -> QueueLimits:
        """Returns the parameters of admission, with this many concurrent batches."""
        return QueueLimits(
            max_faces=self.max_queue_faces,
            max_bytes=self.max_queue_bytes,
            max_caller_faces=self.max_queue_faces_per_caller or self.max_queue_faces,
            max_batch_size=self.bucket_sizes[-1],
            quantum=self.dispatch_rules.quantum,
            executor_count=executor_count,
        )
