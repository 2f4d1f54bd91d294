"""Scores many small crop batches over one call: every request gets exactly one answer, in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DrainingError, FerserveError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.domain.trace import inside, sampled_spans
from ferserve_server.pipeline.ordered_responses import OrderedResponses, outcome_of
from ferserve_server.pipeline.stream_frames import check_rising
from ferserve_server.pipeline.traced_messages import traced_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import Classification
    from ferserve_server.domain.trace import SpanRef, StreamTrace
    from ferserve_server.pipeline.classify_faces import ClassifyFaces

Sent = TypeVar("Sent")
Written = TypeVar("Written")


class CropMessage(NamedTuple):
    """Holds one request: `crops` is uint8 [N, H, W, 1], or the error with which they were rejected."""

    sequence_id: int
    crops: CropBatch | FerserveError
    spec: ModelSpec
    priority: Priority

    @classmethod
    def rejected(cls, sequence_id: int, error: FerserveError) -> CropMessage:
        """Makes a request that could not be read; it is answered with its error, in its place."""
        return cls(sequence_id, error, ModelSpec(), Priority.INTERACTIVE)


class CropAnswer(NamedTuple):
    """Holds the answer to one request, and the span of its message if that is sampled."""

    sequence_id: int
    outcome: Classification | FerserveError
    spans: tuple[SpanRef, ...] = ()


class CropSequence(Generic[Sent, Written]):
    """Reads, starts and answers the messages of one stream. Event loop only.

    Args of the constructor:
        classify: Scores the crops of a message.
        read: Reads a message.
        write: Writes an answer; called in the order of the messages.
        caller: Whose stream it is.
        trace: Samples the messages; None: none is traced.
    """

    def __init__(
        self,
        classify: ClassifyFaces,
        *,
        read: Callable[[Sent], CropMessage],
        write: Callable[[CropAnswer], Written],
        caller: CallerId = UNKNOWN_CALLER,
        trace: StreamTrace | None = None,
    ) -> None:
        self._trace = trace
        self._classify = classify
        self._read = read
        self._write = write
        self._caller = caller
        self._last_read = -1
        self._last_answered = -1

    def begin(self, sent: Sent) -> Coroutine[Any, Any, CropAnswer]:
        """Reads the next message, and returns its work, which raises nothing itself.

        The work runs in the context of the task that awaits it; with a `trace` that must be a context of its own.

        Raises:
            FerserveError: It cannot be read, or its number does not rise: the stream ends with that, after what
                came before is answered.
        """
        message = self._read(sent)
        check_rising(self._last_read, message.sequence_id)
        self._last_read = message.sequence_id
        if self._trace is None:
            return self._run_one(message)
        return traced_message(self._trace, self._run_one(message), lambda answer: answer.outcome)

    def answered(self, answer: CropAnswer) -> Written:
        """Writes the next answer, which is then sent."""
        self._last_answered = answer.sequence_id
        if answer.spans:
            with inside(answer.spans):
                return self._write(answer)
        return self._write(answer)

    def cut_short(self) -> DrainingError:
        """Returns the error of a stream if the server drains before the sender is done."""
        return DrainingError(last_sequence_id=self._last_answered)

    async def _run_one(self, message: CropMessage) -> CropAnswer:
        if isinstance(message.crops, FerserveError):
            return CropAnswer(message.sequence_id, message.crops)
        work = self._classify.packed(
            message.crops, message.spec, deadline=None, priority=message.priority, caller=self._caller
        )
        return CropAnswer(message.sequence_id, await outcome_of(work), sampled_spans.get())


class CropStream(Generic[Sent, Written]):
    """Runs one open stream of crop batches on a transport of single messages. Event loop only.

    Messages and answers are read and written here, on their way: every generator that they pass through besides
    costs as much as looking a model up.

    Args of the constructor:
        sequence: The messages; made for this stream.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.
    """

    def __init__(
        self, sequence: CropSequence[Sent, Written], *, max_unanswered: int, draining: asyncio.Event
    ) -> None:
        self._sequence = sequence
        self._loop = asyncio.get_running_loop()
        self._answers = OrderedResponses(self._begin, max_unanswered=max_unanswered, draining=draining)

    async def run(self, messages: AsyncIterator[Sent]) -> AsyncGenerator[Written, None]:
        """Yields the answer to each request, in order of arrival.

        Raises:
            InvalidRequestError: Sequence numbers do not rise. What came before is answered first.
            DrainingError: The server goes down before the sender is done. What was taken is answered first.
        """
        async with contextlib.aclosing(self._answers.run(messages)) as answers:
            async for answer in answers:
                yield self._sequence.answered(answer)
        if self._answers.cut_short:
            raise self._sequence.cut_short()

    def _begin(self, sent: Sent) -> asyncio.Future[CropAnswer]:
        return self._loop.create_task(self._sequence.begin(sent))
