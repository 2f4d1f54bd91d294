"""Handles one worker process in the primary process: submits its faces and writes scores to shared memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import structlog

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.trace import traced_context
from ferserve_server.runtime.eager_task import EagerTask
from ferserve_server.workers import score_messages as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.domain.prediction import ScoredFaces

log = structlog.get_logger(__name__)


class WorkerHandler:
    """Serves the requests of one worker process. Event loop only.

    Every request runs by itself; when the worker process has ended all are cancelled and removed from the queues.

    Args of the constructor:
        acquire: Hands out leases.
        memory: uint8 [bytes], shared with the worker process.
        post: Sends a message of a request.
        resize: Makes uint8 [N, 48, 48, 1] of faces of another size, for a version with another input than the
            worker process knew of.
        before_answer: Called before every answer, so that its notifications arrive first.

    Attributes:
        face_count: Faces that are not answered.
    """

    def __init__(
        self,
        acquire: Acquire,
        memory: npt.NDArray[np.uint8],
        post: Callable[[bytes], None],
        *,
        resize: Callable[[CropBatch], CropBatch],
        before_answer: Callable[[], None] = lambda: None,
    ) -> None:
        self._acquire = acquire
        self._memory = memory
        self._post = post
        self._resize = resize
        self._before_answer = before_answer
        self._running: dict[int, EagerTask | None] = {}
        self._held_leases: dict[int, Lease] = {}
        self._closed = False
        self.face_count = 0

    def score_message(self, message: bytes) -> None:
        """Handles a message about a request."""
        kind = wire.kind_of(message)
        if kind == wire.SCORE:
            self._begin(wire.read_score(message))
        elif kind == wire.CANCEL:
            # A request that does not run was answered already; the answer is on its way.
            if (running := self._running.get(wire.read_number(message))) is not None:
                running.cancel()
        elif kind == wire.CLOSE and (lease := self._held_leases.pop(wire.read_number(message), None)) is not None:
            lease.__exit__(None, None, None)

    def close(self) -> None:
        """Closes the handler after the worker process has ended: cancels its requests and ends its leases."""
        self._closed = True
        for run in list(self._running.values()):
            if run is not None:
                run.cancel()
        for lease in self._held_leases.values():
            lease.__exit__(None, None, None)
        self._held_leases.clear()

    def _begin(self, request: wire.ScoreRequest) -> None:
        self._running[request.number] = None
        self.face_count += request.shape[0]
        context = traced_context(request.spans) if request.spans else None
        run = EagerTask(self._answer(request), partial(self._ended, request), context)
        if request.number in self._running:  # else it ended at once
            self._running[request.number] = run

    def _ended(self, request: wire.ScoreRequest) -> None:
        self.face_count -= request.shape[0]
        del self._running[request.number]

    async def _answer(self, request: wire.ScoreRequest) -> None:
        try:
            message = await self._scored(request)
        except asyncio.CancelledError:
            message = wire.write_numbered(wire.CANCELLED, request.number)
        except FerserveError as error:
            message = wire.write_rejection(request.number, error)
        except Exception:
            log.exception("request of a worker process failed")
            internal = FerserveError("The server failed on this call. Its log tells more.")
            message = wire.write_rejection(request.number, internal)
        if not self._closed:
            self._before_answer()
            self._post(message)

    async def _scored(self, request: wire.ScoreRequest) -> bytes:
        if not request.held:
            with self._acquire(request.spec, once=True) as lease:
                return await self._score(request, lease)
        held = self._held_leases.get(request.lease)
        if held is None:
            held = self._held_leases[request.lease] = self._acquire(request.spec).__enter__()
        return await self._score(request, held)

    async def _score(self, request: wire.ScoreRequest, lease: Lease) -> bytes:
        count, height, width = request.shape
        if request.offset + max(request.room, count * height * width) > len(self._memory):
            raise ValueError(f"a worker process named a place outside the memory: {request}")
        place = self._memory[request.offset : request.offset + request.room]
        crops: CropBatch = place[: count * height * width].reshape(count, height, width, 1)
        wanted = lease.description.input
        if (height, width) != (wanted.height, wanted.width):
            crops = self._resize(crops)
        faces = await lease.scorer.score(
            crops, deadline=request.deadline, priority=request.priority, caller=request.caller
        )
        return self._written(request, lease, faces, place)

    @staticmethod
    def _written(
        request: wire.ScoreRequest, lease: Lease, faces: ScoredFaces, place: npt.NDArray[np.uint8]
    ) -> bytes:
        count, label_count = faces.scores.shape
        if faces.scores.nbytes > len(place):  # another version than the worker process knew of, with more classes
            raise ValueError(f"no room for {label_count} classes in {len(place)} bytes")
        place[: faces.scores.nbytes].view(np.float32).reshape(count, label_count)[...] = faces.scores
        answer = wire.ScoreAnswer(
            request.number,
            count,
            label_count,
            lease.id,
            faces.queue_s,
            faces.inference_s,
            dict(faces.failures),
        )
        return wire.write_answer(answer)
