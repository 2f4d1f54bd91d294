"""Analyses the frames of a video stream: every frame gets exactly one answer, in order."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import DrainingError, FerserveError, InvalidRequestError
from ferserve_server.pipeline.ordered_responses import OrderedResponses, outcome_of
from ferserve_server.pipeline.stream_window import OverloadPolicy, StreamWindow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.prediction import Analyses
    from ferserve_server.domain.servable import ModelSpec
    from ferserve_server.pipeline.analyze_images import AnalyzeImages


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the sender's number for it and the encoded picture."""

    sequence_id: int
    image: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame was skipped for a newer one."""

    newer_sequence_id: int


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """The answer to one frame: what was found, that it was skipped, or why it failed."""

    sequence_id: int
    outcome: Analyses | Dropped | FerserveError


@dataclass(frozen=True, slots=True)
class FrameStreamConfig:
    """How a stream is treated."""

    spec: ModelSpec
    policy: OverloadPolicy
    detection: DetectionOptions


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one stream.

    Attributes:
        max_unanswered: Messages that are read ahead of their answers; then reading stops.
        max_running: Frames that are analysed at once.
    """

    max_unanswered: int
    max_running: int


class FrameStream:
    """One open stream of frames. Event loop only; made for one call."""

    def __init__(
        self, analyze: AnalyzeImages, config: FrameStreamConfig, limits: StreamLimits, draining: asyncio.Event
    ) -> None:
        self._analyze = analyze
        self._config = config
        self._window = StreamWindow(config.policy, limits.max_running)
        self._answers = OrderedResponses(self._begin, max_unanswered=limits.max_unanswered, draining=draining)
        self._frames: dict[int, tuple[Frame, asyncio.Future[FrameAnswer]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._last_read = -1
        self._last_answered = -1

    async def run(self, frames: AsyncIterator[Frame]) -> AsyncGenerator[FrameAnswer, None]:
        """Yields the answer to each frame, in the order they came.

        Raises:
            InvalidRequestError: Sequence numbers do not rise. What came before is answered first.
            DrainingError: The server goes down before the sender is done. What was taken is answered first.
        """
        try:
            async with contextlib.aclosing(self._answers.run(frames)) as answers:
                async for answer in answers:
                    self._last_answered = answer.sequence_id
                    yield answer
            if self._answers.cut_short:
                raise DrainingError(last_sequence_id=self._last_answered)
        finally:
            for task in self._running:
                task.cancel()

    def _begin(self, frame: Frame) -> asyncio.Future[FrameAnswer]:
        check_rising(self._last_read, frame.sequence_id)
        self._last_read = frame.sequence_id
        future: asyncio.Future[FrameAnswer] = asyncio.get_running_loop().create_future()
        self._frames[frame.sequence_id] = (frame, future)
        dropped = self._window.arrived(frame.sequence_id)
        if dropped is not None:
            _, waiting = self._frames.pop(dropped)
            waiting.set_result(FrameAnswer(dropped, Dropped(frame.sequence_id)))
        self._start_what_may()
        return future

    def _start_what_may(self) -> None:
        while (sequence_id := self._window.start_next()) is not None:
            frame, future = self._frames.pop(sequence_id)
            task = asyncio.get_running_loop().create_task(self._run_one(frame, future))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run_one(self, frame: Frame, future: asyncio.Future[FrameAnswer]) -> None:
        try:
            outcome = await outcome_of(self._analyze([frame.image], self._config.spec, self._config.detection))
        finally:
            self._window.finished()
        if not future.done():
            future.set_result(FrameAnswer(frame.sequence_id, outcome))
        self._start_what_may()


def check_rising(last: int, sequence_id: int) -> None:
    """Refuses a sequence number that is not above the last one (-1 before the first).

    Raises:
        InvalidRequestError: SEQUENCE_NOT_RISING.
    """
    if sequence_id <= last:
        raise InvalidRequestError(
            "SEQUENCE_NOT_RISING",
            f"sequence_id {sequence_id} follows {last}; numbers start at 0 or more and rise.",
            field="sequence_id",
            sequence_id=sequence_id,
            last_sequence_id=last,
        )
