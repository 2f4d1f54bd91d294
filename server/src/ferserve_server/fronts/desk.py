"""The owner's side of one front process: its faces go to the batchers, the scores back into its memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import structlog

from ferserve_server.domain.errors import FerserveError
from ferserve_server.fronts import score_messages as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.domain.prediction import ScoredFaces

log = structlog.get_logger(__name__)


class FrontDesk:
    """Serves the requests of one front process. Event loop only.

    Every request is a task; when the front process is gone they are cancelled, and so leave the queues.

    Args of the constructor:
        acquire: Hands out leases.
        memory: uint8 [bytes], shared with the front process.
        post: Sends a message of a request.
        resize: Makes uint8 [N, 48, 48, 1] of faces of another size, for a version with another input than the
            front process knew of.
        before_answer: Called before every answer, so that what it tells of arrives first.
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
        self._tasks: dict[int, asyncio.Task[bytes]] = {}
        self._kept: dict[int, Lease] = {}
        self._closed = False

    @property
    def request_count(self) -> int:
        """Requests that are not answered."""
        return len(self._tasks)

    def score_message(self, message: bytes) -> None:
        """Takes in what the front process says of a request."""
        kind = wire.kind_of(message)
        if kind == wire.SCORE:
            request = wire.read_score(message)
            task = self._tasks[request.number] = asyncio.get_running_loop().create_task(self._scored(request))
            # Not within the task: one that is cancelled before it has begun never runs.
            task.add_done_callback(partial(self._done, request.number))
        elif kind == wire.CANCEL:
            # Without a task it was answered already; the answer is under way.
            if (running := self._tasks.get(wire.read_number(message))) is not None:
                running.cancel()
        elif kind == wire.CLOSE and (lease := self._kept.pop(wire.read_number(message), None)) is not None:
            lease.__exit__(None, None, None)

    def close(self) -> None:
        """The front process is gone: its requests leave the queues, its leases end."""
        self._closed = True
        for task in list(self._tasks.values()):
            task.cancel()
        for lease in self._kept.values():
            lease.__exit__(None, None, None)
        self._kept.clear()

    def _done(self, number: int, task: asyncio.Task[bytes]) -> None:
        del self._tasks[number]
        if self._closed:
            return
        if task.cancelled():
            message = wire.write_numbered(wire.LEFT, number)
        elif (error := task.exception()) is None:
            message = task.result()
        else:
            if not isinstance(error, FerserveError):
                log.error("request of a front process failed", exc_info=error)
                error = FerserveError("The server failed on this call. Its log tells more.")
            message = wire.write_refusal(number, error)
        self._before_answer()
        self._post(message)

    async def _scored(self, request: wire.ScoreRequest) -> bytes:
        if not request.kept:
            with self._acquire(request.spec, once=True) as lease:
                return await self._score(request, lease)
        kept = self._kept.get(request.lease)
        if kept is None:
            kept = self._kept[request.lease] = self._acquire(request.spec).__enter__()
        return await self._score(request, kept)

    async def _score(self, request: wire.ScoreRequest, lease: Lease) -> bytes:
        count, height, width = request.shape
        if request.offset + max(request.room, count * height * width) > len(self._memory):
            raise ValueError(f"a front process named a place outside the memory: {request}")
        place = self._memory[request.offset : request.offset + request.room]
        crops: CropBatch = place[: count * height * width].reshape(count, height, width, 1)
        wanted = lease.description.input
        if (height, width) != (wanted.height, wanted.width):
            crops = self._resize(crops)
        faces = await lease.scorer.score(crops, deadline=request.deadline, priority=request.priority)
        return self._answer(request, lease, faces, place)

    @staticmethod
    def _answer(
        request: wire.ScoreRequest, lease: Lease, faces: ScoredFaces, place: npt.NDArray[np.uint8]
    ) -> bytes:
        count, label_count = faces.scores.shape
        if faces.scores.nbytes > len(place):  # another version than the front process knew of, with more classes
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
