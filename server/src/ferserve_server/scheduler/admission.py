"""Decides on admission: space in the queue, and deadlines that can be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, QueueFullError

if TYPE_CHECKING:
    from ferserve_server.scheduler.entry import Entry
    from ferserve_server.scheduler.queue import FairQueue

_SMOOTHING: Final = 0.1
"""Weight of the newest batch in the running mean: about the last 20 batches count."""

_DEADLINE_MARGIN: Final = 1.1
"""Factor on the batch times that covers dispatching a batch and sending an answer. Under lasting overload every
accepted request is one that just meets its deadline by this estimate; without a margin each comes just too late,
and all the work is wasted (benchmarks/overload.py).
"""

_RETRY_RANGE_S: Final = (0.005, 5.0)
"""Minimum and maximum retry delay for a rejected caller, in seconds."""

_WASTED_STEP: Final = 0.2
_USEFUL_STEP: Final = 0.02
"""Steps of the headroom, in batch times: it grows by the first for a request whose work was wasted, and shrinks
by the second for one answered in time, so that it settles where one in eleven is wasted.
"""

_MAX_HEADROOM: Final = 8.0
"""Maximum headroom, in batch times: the wait that callers with distant deadlines may be spared."""

_MIN_BATCHES_AHEAD: Final = 1.0
"""Minimum batches that may wait for each executor at any headroom, so that none of them runs dry."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Defines the bounds of the queue and the number of concurrent batches.

    Attributes:
        max_faces: Faces that may wait.
        max_bytes: Bytes of crops that may wait.
        max_caller_faces: Faces of one caller that may wait.
        max_batch_size: Rows of the largest batch.
        quantum: Rows that a caller gets before the next one has its share.
        executor_count: Batches that run at once.
    """

    max_faces: int
    max_bytes: int
    max_caller_faces: int
    max_batch_size: int
    quantum: int
    executor_count: int


class Load(NamedTuple):
    """Describes the waiting work when a request arrives.

    Attributes:
        queued_faces: Faces of all callers.
        queued_bytes: Bytes of them.
        own_faces: Faces of the caller of the request.
        caller_count: Other callers with faces in the queue.
        executor_idle: Whether the request would run at once. Then a deadline ahead is never rejected, so that a
            time measured in a slow spell cannot shut everybody out.
    """

    queued_faces: int
    queued_bytes: int
    own_faces: int
    caller_count: int
    executor_idle: bool


class ServiceEstimate:
    """Estimates answer times from measured ones. Event loop only.

    Attributes:
        batch_s: Mean time of a batch in its executor, in seconds; 0 before the first.
        lag_s: Mean time from a batch's end until its answers are on their way, in seconds: the event loop was
            busy with others, such as with requests that it rejected.
        headroom_s: Time that is kept free before deadlines, in seconds; learnt from accepted requests that were
            not answered in time, or whose callers cancelled them: their patience ends before their deadlines.
    """

    def __init__(self) -> None:
        self.batch_s = 0.0
        self.lag_s = 0.0
        self.headroom_s = 0.0

    @property
    def service_s(self) -> float:
        """Returns the time until the answers of a batch that starts now are sent, in seconds."""
        return self.batch_s + self.lag_s

    def record_batch(self, batch_s: float) -> None:
        """Records the time of a batch in its executor, in seconds."""
        self.batch_s = batch_s if self.batch_s == 0.0 else self.batch_s + _SMOOTHING * (batch_s - self.batch_s)

    def record_lag(self, lag_s: float) -> None:
        """Records the event loop's delay before a batch's answers, in seconds."""
        self.lag_s += _SMOOTHING * (lag_s - self.lag_s)

    def record_answer(self, *, wasted: bool) -> None:
        """Records whether an accepted request with a deadline was late or cancelled, or answered in time."""
        step = _WASTED_STEP if wasted else -_USEFUL_STEP
        max_s = _MAX_HEADROOM * self.batch_s
        self.headroom_s = min(max_s, max(0.0, self.headroom_s + step * self.batch_s))

    def wait_s(self, queued_faces: int, limits: QueueLimits) -> float:
        """Returns the time until a face behind `queued_faces` others is answered, in seconds."""
        batches_ahead = queued_faces / limits.max_batch_size / limits.executor_count
        return (batches_ahead + 1) * self.batch_s + self.lag_s

    def latest_s(self, load: Load, face_count: int, limits: QueueLimits) -> float:
        """Returns the longest time until a request is answered while all is busy, in seconds.

        The batches that run must end first. Ahead of the request are the caller's own faces, and of the others
        only as many as fair shares let pass meanwhile. A request of more than a quantum is served in rounds, and
        requests that come later may be served between them.
        """
        batches_ahead = self.batches_ahead(load, face_count, limits)
        between = min((face_count - 1) // limits.quantum / limits.executor_count, batches_ahead)
        batches = batches_ahead + 2 + between
        needed_s = (batches * self.batch_s + self.lag_s) * _DEADLINE_MARGIN
        return needed_s if batches_ahead < _MIN_BATCHES_AHEAD else needed_s + self.headroom_s

    @staticmethod
    def batches_ahead(load: Load, face_count: int, limits: QueueLimits) -> float:
        """Returns the batches that each executor runs before it comes to a request that is accepted now."""
        own_faces = load.own_faces + face_count
        others = min(load.queued_faces - load.own_faces, load.caller_count * max(own_faces, limits.quantum))
        return (load.own_faces + others) / limits.max_batch_size / limits.executor_count


def check_admission(
    *,
    face_count: int,
    byte_count: int,
    remaining_s: float | None,
    load: Load,
    estimate: ServiceEstimate,
    limits: QueueLimits,
) -> None:
    """Rejects requests without space in the queue or with deadlines that would pass. Pure.

    Args:
        face_count: Faces of the request.
        byte_count: Bytes of its crops.
        remaining_s: Time to the request's deadline, in seconds, or None.
        load: What waits.
        estimate: How long answers take.
        limits: What there is room for.

    Raises:
        QueueFullError: No room.
        DeadlineExpiredError: The deadline has passed.
        DeadlineUnmeetableError: The deadline would pass in the queue.
    """
    if remaining_s is not None and remaining_s <= 0:
        raise DeadlineExpiredError
    if load.own_faces + face_count > limits.max_caller_faces < limits.max_faces:
        raise QueueFullError(
            what="faces of this caller",
            queued=load.own_faces,
            limit=limits.max_caller_faces,
            setting="max_queue_faces_per_caller",
            retry_after_s=retry_after_s(load.own_faces, estimate, limits),
        )
    if load.queued_faces + face_count > limits.max_faces:
        raise faces_full_error(load.queued_faces, estimate, limits)
    if load.queued_bytes + byte_count > limits.max_bytes:
        raise QueueFullError(
            what="MiB of faces",
            queued=load.queued_bytes // 2**20,
            limit=limits.max_bytes // 2**20,
            setting="max_queue_mib",
            retry_after_s=retry_after_s(load.queued_faces, estimate, limits),
        )
    if remaining_s is None or load.executor_idle:
        return
    answered_in_s = estimate.latest_s(load, face_count, limits)
    if answered_in_s > remaining_s:
        raise DeadlineUnmeetableError(remaining_s=remaining_s, expected_s=answered_in_s)


def faces_full_error(queued_faces: int, estimate: ServiceEstimate, limits: QueueLimits) -> QueueFullError:
    """Makes the error for a queue that is full of faces."""
    return QueueFullError(
        what="faces",
        queued=queued_faces,
        limit=limits.max_faces,
        setting="max_queue_faces",
        retry_after_s=retry_after_s(queued_faces, estimate, limits),
    )


def retry_after_s(queued_faces: int, estimate: ServiceEstimate, limits: QueueLimits) -> float:
    """Returns the retry delay of a rejected caller, in seconds."""
    low, high = _RETRY_RANGE_S
    return min(high, max(low, estimate.wait_s(queued_faces, limits) / 2))


def rows_to_displace(own: int, largest: int, wanted: int, missing: int) -> int:
    """Returns the number of faces that the largest caller gives up for another; 0 if it keeps them. Pure.

    It never ends up with fewer than the other one would have, so that nobody gains by displacing alternately.

    Args:
        own: Faces that wait of the caller that wants room.
        largest: Those of the caller with most of them.
        wanted: Faces of the request.
        missing: Faces, or their equivalent in bytes, that there is no room for.
    """
    return missing if 0 < missing <= largest - (own + wanted) else 0


def displaced_requests(entry: Entry, queue: FairQueue, limits: QueueLimits) -> list[Entry]:
    """Lists the requests whose places a request takes: the newest of the caller that fills the queue.

    The list is empty if there is room already, or if that caller keeps its places.
    """
    face_count = len(entry.crops)
    over_bytes = queue.byte_count + entry.crops.nbytes - limits.max_bytes
    missing = max(
        queue.face_count + face_count - limits.max_faces, -(-over_bytes * face_count // entry.crops.nbytes)
    )
    if missing <= 0 or not queue:
        return []
    caller, largest = queue.largest_backlog()
    given_up = rows_to_displace(queue.faces_of(entry.caller), largest, face_count, missing)
    displaced: list[Entry] = []
    for each in queue.newest_of(caller):
        if given_up <= 0:
            break
        displaced.append(each)
        given_up -= each.remaining
    return displaced if given_up <= 0 else []
