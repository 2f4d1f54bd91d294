"""Sends faces to the primary process in groups, through shared memory, and returns their scores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DeadlineUnmeetableError, QueueFullError
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.domain.trace import sampled_spans
from ferserve_server.workers import score_messages as wire
from ferserve_server.workers.coalescing import MAX_COALESCED_FACES, CoalescedRequest, PendingRequest

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

_MAX_NUMBER: Final = 2**32 - 1

_SIZE_ERRORS: Final = (QueueFullError, DeadlineUnmeetableError)
"""Errors that reject a group whose requests would be accepted one by one."""


class RemoteScorer:
    """Sends faces to the primary process. Event loop only.

    Requests that begin in one event-loop iteration, and that the primary process would treat alike, are sent as
    one, which costs little more than a single request. No request waits longer for that while all waiting faces
    fit into one batch. Beyond that (`Route.shared_faces`) they are sent one by one: the primary process's queue is
    fair to requests, and would run some faces of every group in each batch.

    Args of the constructor:
        memory: uint8 [bytes], shared with the primary process.
        allocator: Allocator of that memory.
        post: Sends a message of a request.
        clock: The time.
        describe: Returns what is known of a version, if anything is.
        rejected: Receives the reason why a request was rejected here.
        cancelled: Receives cancellations of requests whose group goes on: their faces run unused.
    """

    def __init__(
        self,
        memory: npt.NDArray[np.uint8],
        allocator: BlockAllocator,
        *,
        post: Callable[[bytes], None],
        clock: Clock,
        describe: Callable[[ServableId], ModelDescription | None],
        rejected: Callable[[str], None],
        cancelled: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._allocator = allocator
        self._post = post
        self._clock = clock
        self._describe = describe
        self._rejected = rejected
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()
        self._pending: CoalescedRequest | None = None
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
        spans = sampled_spans.get()
        request = PendingRequest(lease, crops, deadline, priority, self._loop.create_future(), caller, spans)
        self._begin(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._on_cancelled(request)
            raise

    def end_lease(self, number: int) -> None:
        """Notifies the primary process that no more faces come for a lease that it keeps."""
        self._post(wire.write_numbered(wire.CLOSE, number))

    def score_message(self, message: bytes) -> None:
        """Handles a message about a request."""
        kind = wire.kind_of(message)
        if kind == wire.ANSWER:
            self._on_answer(wire.read_answer(message))
        elif kind == wire.REJECTED:
            self._on_rejected(*wire.read_rejection(message))
        else:
            self._finish(wire.read_number(message))

    def _begin(self, request: PendingRequest) -> None:
        faces, route = len(request.crops), request.lease.route
        coalesced = self._pending
        if coalesced is not None:
            room = route.shared_faces - self._unanswered_faces - coalesced.face_count
            if faces <= room and coalesced.accepts(request):
                coalesced.add(request)
                return
            self._send_pending()
        coalesced = CoalescedRequest(request)
        if (
            request.lease.held
            or faces >= MAX_COALESCED_FACES
            or self._unanswered_faces + faces >= route.shared_faces
        ):
            self._send(coalesced)
        else:
            self._pending = coalesced
            self._loop.call_soon(self._send_pending)

    def _send_pending(self) -> None:
        coalesced, self._pending = self._pending, None
        if coalesced is not None:
            coalesced.drop_cancelled()
            if coalesced.requests:
                self._send(coalesced)

    def _send(self, coalesced: CoalescedRequest) -> None:
        requests, first = coalesced.requests, coalesced.requests[0]
        lease, (_, height, width, _) = first.lease, first.crops.shape
        byte_count = coalesced.face_count * height * width
        coalesced.room = max(byte_count, coalesced.face_count * lease.description.score_column_count * 4)
        offset = self._allocator.take(coalesced.room)
        if offset is None:
            self._reject(coalesced)
            return
        coalesced.offset, coalesced.sent_at = offset, self._clock.now()
        place = self._memory[offset : offset + byte_count].reshape(coalesced.face_count, height, width, 1)
        if len(requests) == 1:
            place[...] = first.crops
        else:
            np.concatenate([request.crops for request in requests], out=place)
        self._last_number = coalesced.number = self._last_number % _MAX_NUMBER + 1
        self._sent[coalesced.number] = coalesced
        self._unanswered_faces += coalesced.face_count
        message = wire.ScoreRequest(
            coalesced.number,
            lease.number,
            lease.held,
            offset,
            coalesced.room,
            (coalesced.face_count, height, width),
            coalesced.deadline,
            first.priority,
            lease.route.spec,
            first.caller,
            coalesced.spans,
        )
        self._post(wire.write_score(message))

    def _on_cancelled(self, request: PendingRequest) -> None:
        coalesced = request.coalesced
        if coalesced.number == 0 or request not in coalesced.requests:  # it was not sent
            self._cancelled("queued")
            return
        if coalesced.number not in self._sent:  # the answer crossed the cancellation
            self._cancelled("running")
            return
        coalesced.cancelled_count += 1
        if coalesced.cancelled_count == len(coalesced.requests):
            self._post(wire.write_numbered(wire.CANCEL, coalesced.number))
        else:
            self._cancelled("running")

    def _on_answer(self, answer: wire.ScoreAnswer) -> None:
        coalesced = self._finish(answer.number)
        self._answer_s += _NEWEST_SHARE * (self._clock.now() - coalesced.sent_at - self._answer_s)
        count, label_count = answer.face_count, answer.label_count
        place = self._memory[coalesced.offset : coalesced.offset + count * label_count * 4]
        scores = place.view(np.float32).reshape(count, label_count).copy()
        description = self._describe(answer.servable)
        start = 0
        for request in coalesced.requests:
            end = start + len(request.crops)
            if not request.future.done():
                request.lease.answered_by(answer.servable, description)
                failures = answer.failures and {
                    row - start: error for row, error in answer.failures.items() if start <= row < end
                }
                faces = ScoredFaces(scores[start:end], failures, answer.queue_s, answer.inference_s)
                request.future.set_result(faces)
            start = end

    def _on_rejected(self, number: int, error: FerserveError) -> None:
        coalesced = self._finish(number)
        if len(coalesced.requests) > 1 and isinstance(error, _SIZE_ERRORS):
            self._send_one_by_one(coalesced)
            return
        for request in coalesced.waiting:
            request.future.set_exception(error)

    def _reject(self, coalesced: CoalescedRequest) -> None:
        """Rejects a request for which shared memory has no room."""
        if len(coalesced.requests) > 1:
            self._send_one_by_one(coalesced)
            return
        self._rejected(QueueFullError.reason)
        low, high = _RETRY_RANGE_S
        error = QueueFullError(
            what="MiB of faces",
            queued=self._allocator.taken // 2**20,
            limit=self._allocator.size // 2**20,
            setting="max_queue_mib",
            retry_after_s=min(high, max(low, self._answer_s / 2)),
        )
        coalesced.requests[0].future.set_exception(error)

    def _send_one_by_one(self, coalesced: CoalescedRequest) -> None:
        for request in coalesced.waiting:
            self._send(CoalescedRequest(request))

    def _finish(self, number: int) -> CoalescedRequest:
        coalesced = self._sent.pop(number)
        self._allocator.give_back(coalesced.offset, coalesced.room)
        self._unanswered_faces -= coalesced.face_count
        return coalesced
