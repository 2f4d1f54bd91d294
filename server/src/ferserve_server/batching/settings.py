"""How a batcher works."""

from __future__ import annotations

from dataclasses import dataclass


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
        hold_until_queued: Cut the first batch not before this many faces wait. 0 but in tests.
    """

    bucket_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    max_queue_faces: int = 4096
    max_queue_bytes: int = 64 * 2**20
    max_queue_delay_s: float = 0.0
    bulk_promotion_s: float = 0.25
    execution_timeout_s: float = 30.0
    hold_until_queued: int = 0
