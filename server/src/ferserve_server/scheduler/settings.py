"""How a batcher works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ferserve_server.scheduler.admission import QueueLimits
from ferserve_server.scheduler.policy import CutRules

BUCKET_SIZES: Final = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
"""Sizes to choose from, in faces: of a batch of more than 8, at most a quarter is padding."""


@dataclass(frozen=True, slots=True)
class BatcherSettings:
    """How a batcher works.

    Attributes:
        bucket_sizes: Sizes that batches are padded to, rising, 1 or more each.
        max_queue_faces: Faces that may wait.
        max_queue_bytes: Bytes of crops that may wait.
        max_queue_delay_s: See `policy.CutRules`.
        bulk_promotion_s: See `policy.CutRules`.
        execution_timeout_s: A batch that runs longer is failed and its thread replaced.
        inline_s: Longest batch, in seconds, that is run on the event loop for a caller who is alone; 0: none.
        hold_until_queued: Cut the first batch not before this many faces wait. 0 but in tests.
        few_rows: See `policy.CutRules`.
    """

    bucket_sizes: tuple[int, ...] = BUCKET_SIZES
    max_queue_faces: int = 4096
    max_queue_bytes: int = 64 * 2**20
    max_queue_delay_s: float = 0.0
    bulk_promotion_s: float = 0.25
    execution_timeout_s: float = 30.0
    inline_s: float = 0.0
    hold_until_queued: int = 0
    few_rows: int = 0

    @property
    def cut_rules(self) -> CutRules:
        """What the policy goes by."""
        return CutRules(
            self.bucket_sizes[-1],
            self.max_queue_delay_s,
            self.bulk_promotion_s,
            self.hold_until_queued,
            self.few_rows,
        )

    def queue_limits(self, executor_count: int) -> QueueLimits:
        """What admission goes by, with so many batches running at once."""
        return QueueLimits(self.max_queue_faces, self.max_queue_bytes, self.bucket_sizes[-1], executor_count)
