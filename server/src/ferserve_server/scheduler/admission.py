"""What may still be taken: room in the queue, and deadlines that can be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, QueueFullError

_SMOOTHING: Final = 0.1
"""Weight of the newest batch in the running mean: about the last 20 batches count."""

_DEADLINE_MARGIN: Final = 1.1
"""What an answer takes beyond its batches: handing over and sending. Under lasting overload every request that is
taken is one that just meets its deadline by this reckoning; without a margin each comes just too late, and all the
work is for nothing (benchmarks/overload.py)."""

_RETRY_RANGE_S: Final = (0.005, 5.0)
"""Shortest and longest wait that a refused caller is told, in seconds."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, and how much runs at once."""

    max_faces: int
    max_bytes: int
    max_batch_size: int
    executor_count: int


class ServiceRate:
    """How long batches take, as a running mean. Event loop only."""

    def __init__(self) -> None:
        self.batch_s = 0.0

    def executed(self, inference_s: float) -> None:
        """A batch took this long, in seconds."""
        self.batch_s = (
            inference_s if self.batch_s == 0.0 else self.batch_s + _SMOOTHING * (inference_s - self.batch_s)
        )

    def wait_s(self, queued_faces: int, limits: QueueLimits) -> float:
        """Time until a face behind `queued_faces` others is answered, in seconds; 0 before the first batch."""
        batches_ahead = queued_faces / limits.max_batch_size / limits.executor_count
        return (batches_ahead + 1) * self.batch_s

    def latest_s(self, queued_faces: int, face_count: int, limits: QueueLimits) -> float:
        """Longest time until a request behind `queued_faces` others is answered while all is busy, in seconds.

        Beyond `wait_s`: the batches that run must end first, and batches are shared out evenly, so that requests
        which come later may be served between the faces of this one: one batch for each of its faces at most, and
        no more of them than were ahead of it, since as many wait as before.
        """
        batches_ahead = queued_faces / limits.max_batch_size / limits.executor_count
        between = min((face_count - 1) / limits.executor_count, batches_ahead)
        return (self.wait_s(queued_faces, limits) + (1 + between) * self.batch_s) * _DEADLINE_MARGIN


def check_admission(  # noqa: PLR0913 - the facts of one decision
    *,
    face_count: int,
    byte_count: int,
    queued_faces: int,
    queued_bytes: int,
    remaining_s: float | None,
    executor_idle: bool,
    rate: ServiceRate,
    limits: QueueLimits,
) -> None:
    """Refuses what has no room or would come too late. Pure.

    Args:
        face_count: Faces of the request.
        byte_count: Bytes of its crops.
        queued_faces: Faces that wait.
        queued_bytes: Bytes that wait.
        remaining_s: Time to the request's deadline, in seconds, or None.
        executor_idle: Whether it would run at once. Then a deadline ahead is never refused, so that a rate
            measured in a slow spell cannot shut everybody out.
        rate: How long batches take.
        limits: What there is room for.

    Raises:
        QueueFullError: No room.
        DeadlineExpiredError: The deadline has passed.
        DeadlineUnmeetableError: The deadline would pass in the queue.
    """
    if queued_faces + face_count > limits.max_faces:
        raise QueueFullError(
            what="faces",
            queued=queued_faces,
            limit=limits.max_faces,
            setting="max_queue_faces",
            retry_after_s=_retry_after_s(queued_faces, rate, limits),
        )
    if queued_bytes + byte_count > limits.max_bytes:
        raise QueueFullError(
            what="MiB of faces",
            queued=queued_bytes // 2**20,
            limit=limits.max_bytes // 2**20,
            setting="max_queue_mib",
            retry_after_s=_retry_after_s(queued_faces, rate, limits),
        )
    if remaining_s is None:
        return
    if remaining_s <= 0:
        raise DeadlineExpiredError
    if executor_idle:
        return
    answered_in_s = rate.latest_s(queued_faces, face_count, limits)
    if answered_in_s > remaining_s:
        raise DeadlineUnmeetableError(remaining_s=remaining_s, expected_s=answered_in_s)


def _retry_after_s(queued_faces: int, rate: ServiceRate, limits: QueueLimits) -> float:
    low, high = _RETRY_RANGE_S
    return min(high, max(low, rate.wait_s(queued_faces, limits) / 2))
