"""Scores many small crop batches over one call: every request gets exactly one answer, in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from ferserve_server.domain.errors import DrainingError, FerserveError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.ordered import OrderedAnswers
from ferserve_server.pipeline.outcome import outcome_of
from ferserve_server.pipeline.stream_frames import check_rising

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import Classification
    from ferserve_server.pipeline.classify_faces import ClassifyFaces

Sent = TypeVar("Sent")
Written = TypeVar("Written")


class CropMessage(NamedTuple):
    """One request: `crops` is uint8 [N, H, W, 1], or the error that they were refused with."""

    sequence_id: int
    crops: CropBatch | FerserveError
    spec: ModelSpec
    priority: Priority

    @classmethod
    def refused(cls, sequence_id: int, error: FerserveError) -> CropMessage:
        """A request that could not be read; it is answered with its error, in its place."""
        return cls(sequence_id, error, ModelSpec(), Priority.INTERACTIVE)


class CropAnswer(NamedTuple):
    """The answer to one request."""

    sequence_id: int
    outcome: Classification | FerserveError


class CropStream(Generic[Sent, Written]):
    """One open stream of crop batches. Event loop only; made for one call.

    Messages and answers are read and written here, on their way: every generator that they pass through besides
    costs as much as looking a model up.

    Args of the constructor:
        classify: Scores the crops of a message.
        read: Reads a message. An error that it raises ends the stream, after what came before is answered.
        write: Writes an answer; called in the order of the messages.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.
    """

    def __init__(
        self,
        classify: ClassifyFaces,
        *,
        read: Callable[[Sent], CropMessage],
        write: Callable[[CropAnswer], Written],
        max_unanswered: int,
        draining: asyncio.Event,
    ) -> None:
        self._classify = classify
        self._read = read
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._answers = OrderedAnswers(self._begin, max_unanswered=max_unanswered, draining=draining)
        self._last_read = -1
        self._last_answered = -1

    async def run(self, messages: AsyncIterator[Sent]) -> AsyncGenerator[Written, None]:
        """Yields the answer to each request, in the order they came.

        Raises:
            InvalidRequestError: Sequence numbers do not rise. What came before is answered first.
            DrainingError: The server goes down before the sender is done. What was taken is answered first.
        """
        async with contextlib.aclosing(self._answers.run(messages)) as answers:
            async for answer in answers:
                self._last_answered = answer.sequence_id
                yield self._write(answer)
        if self._answers.cut_short:
            raise DrainingError(last_sequence_id=self._last_answered)

    def _begin(self, sent: Sent) -> asyncio.Future[CropAnswer]:
        message = self._read(sent)
        check_rising(self._last_read, message.sequence_id)
        self._last_read = message.sequence_id
        return self._loop.create_task(self._run_one(message))

    async def _run_one(self, message: CropMessage) -> CropAnswer:
        if isinstance(message.crops, FerserveError):
            return CropAnswer(message.sequence_id, message.crops)
        work = self._classify.packed(message.crops, message.spec, deadline=None, priority=message.priority)
        return CropAnswer(message.sequence_id, await outcome_of(work))
