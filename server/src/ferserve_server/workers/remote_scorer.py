"""Sends faces to the primary process in groups, through shared memory, and returns their scores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DeadlineUnmeetableError, QueueFullError
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.workers import score_messages as wire
from ferserve_server.workers.coalescing import MOST_FACES, CoalescedRequest, PendingRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Clock, Priority
    from ferserve_server.domain.servable import ModelDescription, ServableId
    from ferserve_server.ipc.shared_memory import BlockAllocator
    from ferserve_server.workers.remote_lease import RemoteLease

_NEWEST_SHARE: Final = 0.1
"""Weight of the newest answer in the running mean of answer times: about the last 20 count."""

_RETRY_RANGE_S: Final = (0.005, 5.0)
"""Minimum and maximum retry delay of a rejected client, in seconds, as in `scheduler.admission`."""

_MOST_NUMBER: Final = 2**32 - 1

_FOR_ITS_SIZE: Final = (QueueFullError, DeadlineUnmeetableError)
"""Errors that reject a group whose requests would be accepted one by one."""


class RemoteScorer:
    """Sends faces to the primary process. Event loop only.

    Requests that begin in one event-loop iteration, and that the primary process would treat alike, are sent as
    one, which costs little more than a single request. No request waits longer for that while all waiting faces
    fit into one batch. Beyond that (`Route.shared_faces`) they are sent one by one: the primary process's queue is
    fair to requests, and would run some faces of every group in each batch.

    Args of the constructor:
        memory: uint8 [bytes], shared with the primary process.
        arena: Allocator of that memory.
        post: Sends a message of a request.
        clock: The time.
        describe: Returns what is known of a version, if anything is.
        rejected: Receives the reason why a request was rejected here.
        cancelled: Receives cancellations of requests whose group goes on: their faces run unused.
    """

    def __init__(
        self,
        memory: npt.NDArray[np.uint8],
        arena: BlockAllocator,
        *,
        post: Callable[[bytes], None],
        clock: Clock,
        describe: Callable[[ServableId], ModelDescription | None],
        rejected: Callable[[str], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._arena = arena
        self._post = post
        self._clock = clock
        self._describe = describe
        self._rejected = rejected
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()
        self._open: CoalescedRequest | None = None
        self._sent: dict[int, CoalescedRequest] = {}
        self._unanswered_faces = 0
        self._last_number = 0
        self._answer_s = 0.0

    async def score(
        self,
        lease: RemoteLease,
        crops: CropBatch,
        *,
        deadline: float | None,
        priority: Priority,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        """Scores faces for a lease; see `domain.ports.ScoresFaces`."""
        request = PendingRequest(lease, crops, deadline, priority, self._loop.create_future(), caller)
        self._begin(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._left(request)
            raise

    def end_lease(self, number: int) -> None:
        """Notifies the primary process that no more faces come for a lease that it keeps."""
        self._post(wire.write_numbered(wire.CLOSE, number))

    def score_message(self, message: bytes) -> None:
        """Handles a message about a request."""
        kind = wire.kind_of(message)
        if kind == wire.ANSWER:
            self._answered(wire.read_answer(message))
        elif kind == wire.REFUSED:
            self._refused(*wire.read_refusal(message))
        else:
            self._done(wire.read_number(message))

    def _begin(self, caller: PendingRequest) -> None:
        faces, way = len(caller.crops), caller.lease.way
        group = self._open
        if group is not None:
            room = way.shared_faces - self._unanswered_faces - group.face_count
            if faces <= room and group.takes(caller):
                group.add(caller)
                return
            self._send_open()
        group = CoalescedRequest(caller)
        if caller.lease.kept or faces >= MOST_FACES or self._unanswered_faces + faces >= way.shared_faces:
            self._send(group)
        else:
            self._open = group
            self._loop.call_soon(self._send_open)

    def _send_open(self) -> None:
        group, self._open = self._open, None
        if group is not None:
            group.leave_out_gone()
            if group.callers:
                self._send(group)

    def _send(self, group: CoalescedRequest) -> None:
        callers, first = group.callers, group.callers[0]
        lease, (_, height, width, _) = first.lease, first.crops.shape
        byte_count = group.face_count * height * width
        group.room = max(byte_count, group.face_count * lease.description.score_column_count * 4)
        offset = self._arena.take(group.room)
        if offset is None:
            self._refuse(group)
            return
        group.offset, group.sent_at = offset, self._clock.now()
        place = self._memory[offset : offset + byte_count].reshape(group.face_count, height, width, 1)
        if len(callers) == 1:
            place[...] = first.crops
        else:
            np.concatenate([caller.crops for caller in callers], out=place)
        self._last_number = group.number = self._last_number % _MOST_NUMBER + 1
        self._sent[group.number] = group
        self._unanswered_faces += group.face_count
        request = wire.ScoreRequest(
            group.number,
            lease.number,
            lease.kept,
            offset,
            group.room,
            (group.face_count, height, width),
            group.deadline,
            first.priority,
            lease.way.spec,
            first.id,
        )
        self._post(wire.write_score(request))

    def _left(self, caller: PendingRequest) -> None:
        group = caller.group
        if group.number == 0 or caller not in group.callers:  # it was not sent
            self._cancelled("queued")
            return
        if group.number not in self._sent:  # the answer crossed the cancellation
            self._cancelled("running")
            return
        group.left_count += 1
        if group.left_count == len(group.callers):
            self._post(wire.write_numbered(wire.CANCEL, group.number))
        else:
            self._cancelled("running")

    def _answered(self, answer: wire.ScoreAnswer) -> None:
        group = self._done(answer.number)
        self._answer_s += _NEWEST_SHARE * (self._clock.now() - group.sent_at - self._answer_s)
        count, label_count = answer.face_count, answer.label_count
        place = self._memory[group.offset : group.offset + count * label_count * 4]
        scores = place.view(np.float32).reshape(count, label_count).copy()
        description = self._describe(answer.servable)
        start = 0
        for caller in group.callers:
            end = start + len(caller.crops)
            if not caller.future.done():
                caller.lease.answered_by(answer.servable, description)
                failures = answer.failures and {
                    row - start: error for row, error in answer.failures.items() if start <= row < end
                }
                faces = ScoredFaces(scores[start:end], failures, answer.queue_s, answer.inference_s)
                caller.future.set_result(faces)
            start = end

    def _refused(self, number: int, error: FerserveError) -> None:
        group = self._done(number)
        if len(group.callers) > 1 and isinstance(error, _FOR_ITS_SIZE):
            self._send_one_by_one(group)
            return
        for caller in group.waiting:
            caller.future.set_exception(error)

    def _refuse(self, group: CoalescedRequest) -> None:
        """Rejects a request for which shared memory has no room."""
        if len(group.callers) > 1:
            self._send_one_by_one(group)
            return
        self._rejected(QueueFullError.reason)
        low, high = _RETRY_RANGE_S
        error = QueueFullError(
            what="MiB of faces",
            queued=self._arena.taken // 2**20,
            limit=self._arena.size // 2**20,
            setting="max_queue_mib",
            retry_after_s=min(high, max(low, self._answer_s / 2)),
        )
        group.callers[0].future.set_exception(error)

    def _send_one_by_one(self, group: CoalescedRequest) -> None:
        for caller in group.waiting:
            self._send(CoalescedRequest(caller))

    def _done(self, number: int) -> CoalescedRequest:
        group = self._sent.pop(number)
        self._arena.give_back(group.offset, group.room)
        self._unanswered_faces -= group.face_count
        return group
