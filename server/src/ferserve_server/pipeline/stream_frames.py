"""Answers every frame of a video stream exactly once, in order. Independent of the transport."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain import metrics
from ferserve_server.domain.errors import DrainingError, FerserveError, InvalidRequestError
from ferserve_server.domain.trace import inside, sampled_spans, untraced_context
from ferserve_server.pipeline.analyze_frames import FrameAnalyzer
from ferserve_server.pipeline.frame_answers import (
    Dropped,
    Frame,
    FrameAnalysis,
    FrameAnswer,
    Unchanged,
    check_config,
)
from ferserve_server.pipeline.intake_pace import IntakePace
from ferserve_server.pipeline.ordered_responses import OrderedResponses, outcome_of
from ferserve_server.pipeline.stream_window import OverloadPolicy, StreamWindow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.trace import CallTrace, StreamTrace
    from ferserve_server.pipeline.frame_answers import FrameStreamConfig
    from ferserve_server.tracking.events import TrackEvent
    from ferserve_server.tracking.ports import FrameRequest, FrameVision


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Defines the bounds of one stream.

    Attributes:
        max_unanswered: Messages that are read ahead of their answers; then reading stops.
        max_running: Frames that are analysed at once.
    """

    max_unanswered: int
    max_running: int


class StreamFrames:
    """Implements StreamFrames of gRPC and `/v1/stream` of WebSocket. Event loop only."""

    def __init__(
        self, acquire: Acquire, vision: FrameVision, limits: StreamLimits, clock: Clock, recorder: MetricsRecorder
    ) -> None:
        self._acquire = acquire
        self._vision = vision
        self._limits = limits
        self._clock = clock
        self._recorder = recorder
        self._pace = IntakePace()

    @property
    def limits(self) -> StreamLimits:
        """Returns the bounds of each stream."""
        return self._limits

    def open(
        self, config: FrameStreamConfig, draining: asyncio.Event, trace: StreamTrace | None = None
    ) -> FrameStream:
        """Opens a stream.

        Args:
            config: Treatment of the stream, checked with `check_config`.
            draining: Set when nothing new may be received.
            trace: Samples frames; None: none is traced.
        """
        check_config(config)
        analyzer = FrameAnalyzer(self._acquire, self._vision, config)
        return FrameStream(
            analyzer, config, self._limits, draining, self._clock, self._recorder, self._pace, trace=trace
        )


@dataclass(slots=True, eq=False)
class _Received:
    """Holds a frame until its answer."""

    frame: Frame
    time_s: float
    received_at: float
    answered: asyncio.Future[_Received]
    outcome: FrameAnalysis | Unchanged | Dropped | FerserveError | None = None
    events: tuple[TrackEvent, ...] = ()
    trace: CallTrace | None = None

    def answer(
        self, outcome: FrameAnalysis | Unchanged | Dropped | FerserveError, events: tuple[TrackEvent, ...] = ()
    ) -> None:
        """Settles the answer, unless the stream was closed."""
        if not self.answered.done():
            self.outcome, self.events = outcome, events
            self.answered.set_result(self)


class FrameStream:
    """Answers one open stream of frames. Event loop only; made for one caller by `StreamFrames.open`."""

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        analyzer: FrameAnalyzer,
        config: FrameStreamConfig,
        limits: StreamLimits,
        draining: asyncio.Event,
        clock: Clock,
        recorder: MetricsRecorder,
        pace: IntakePace,
        *,
        trace: StreamTrace | None = None,
    ) -> None:
        self._trace = trace
        self._analyzer = analyzer
        self._clock = clock
        self._recorder = recorder
        self._pace = pace
        self._drops = config.policy is not OverloadPolicy.EVERY_FRAME
        self._chosen = asyncio.Event()
        self._window = StreamWindow(
            config.policy,
            limits.max_running,
            max_age_s=config.max_age_s,
            in_order=config.tracking is not None,
        )
        self._answers = OrderedResponses(self._begin, max_unanswered=limits.max_unanswered, draining=draining)
        self._waiting: dict[int, _Received] = {}
        self._running: set[asyncio.Task[None]] = set()
        resumed_after = config.resumed_after_sequence_id
        self._last_read = self._last_answered = -1 if resumed_after is None else resumed_after
        self._tracks_restarted = resumed_after is not None and config.tracking is not None
        self._first_at: float | None = None
        self._last_time_s = -math.inf

    async def run(self, frames: AsyncIterator[Frame]) -> AsyncGenerator[FrameAnswer, None]:
        """Yields the answer to each frame, in order of arrival. Closing it cancels unanswered ones.

        Raises:
            InvalidRequestError: Sequence numbers do not rise, or times fall. What came before is answered first.
            DrainingError: The server goes down before the sender is done. What was received is answered first.
        """
        try:
            async with contextlib.aclosing(self._answers.run(self._paced(frames))) as answers:
                async for received in answers:
                    yield self._answer_to(received)
            if self._answers.cut_short:
                raise DrainingError(last_sequence_id=self._last_answered)
        finally:
            for task in self._running:
                task.cancel()

    async def _paced(self, frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
        """Reads frames, and while one waits only as many as the process can afford to drop."""
        async for frame in frames:
            yield frame
            while self._drops and self._waiting and (wait_s := self._pace.wait_s(self._clock.now())):
                self._chosen.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._chosen.wait(), wait_s)

    def _answer_to(self, received: _Received) -> FrameAnswer:
        assert received.outcome is not None  # noqa: S101 - set before `answered` is
        age_s = self._clock.now() - received.received_at
        kind = kind_of(received.outcome)
        if received.trace is None:
            self._record(kind, age_s)
        else:
            with inside((received.trace.span,)):
                self._record(kind, age_s)
            _end_trace(received.trace, received, kind)
        restarted, self._tracks_restarted = self._tracks_restarted, False
        self._last_answered = received.frame.sequence_id
        return FrameAnswer(
            self._last_answered, received.outcome, received.time_s, age_s, received.events, restarted
        )

    def _record(self, kind: str, age_s: float) -> None:
        outcome, _, reason = kind.partition("_")
        self._recorder.observe(metrics.STREAM_FRAME_AGE_SECONDS, age_s, outcome)
        if reason:
            self._recorder.count(metrics.STREAM_FRAMES_DROPPED, reason)

    def _begin(self, frame: Frame) -> asyncio.Future[_Received]:
        check_rising(self._last_read, frame.sequence_id)
        now = self._clock.now()
        received = _Received(frame, self._time_of(frame, now), now, asyncio.get_running_loop().create_future())
        if self._trace is not None:
            received.trace = self._trace.begin_message()
        self._last_read = frame.sequence_id
        self._waiting[frame.sequence_id] = received
        dropped = self._window.arrived(frame.sequence_id, now)
        if dropped is not None:
            self._waiting.pop(dropped).answer(Dropped(frame.sequence_id))
        self._start_what_may()
        return received.answered

    def _time_of(self, frame: Frame, now: float) -> float:
        """Returns the frame's time in its source, in seconds.

        Raises:
            InvalidRequestError: TIME_INVALID.
        """
        if self._first_at is None:
            self._first_at = now
        if frame.time_s is None:
            time_s = max(self._last_time_s, now - self._first_at)
        elif math.isfinite(frame.time_s) and frame.time_s >= self._last_time_s:
            time_s = frame.time_s
        else:
            raise InvalidRequestError(
                "TIME_INVALID",
                f"time_s {frame.time_s} of frame {frame.sequence_id} follows {self._last_time_s}: times are "
                "finite and never fall within a stream. Leave time_s out to have frames timed by their arrival.",
                field="frame.time_s",
                time_s=frame.time_s,
                last_time_s=self._last_time_s,
            )
        self._last_time_s = time_s
        return time_s

    def _start_what_may(self) -> None:
        while self._window.ask():
            # The frame whose Task runs may be traced; the next one is another.
            context = None if self._trace is None else untraced_context()
            task = asyncio.get_running_loop().create_task(self._run_one(), context=context)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run_one(self) -> None:
        """Analyses the frame that is chosen when a thread is free."""
        received: _Received | None = None
        lease: Lease | None = None
        with contextlib.ExitStack() as leases:

            def pick() -> FrameRequest | None:
                nonlocal received, lease
                received = self._pick()
                if received is None:
                    return None
                if received.trace is not None:  # until the end of this Task, which is the frame's own
                    sampled_spans.set((received.trace.span,))
                lease = leases.enter_context(self._analyzer.acquire())
                return self._analyzer.request(received.frame.image, received.time_s)

            found = await outcome_of(self._analyzer.search(pick))
            if isinstance(found, FerserveError) and received is None:
                received = self._pick()  # the threads are closed: the frame that waits fails
            if received is None:
                return
            self._window.searched()
            self._start_what_may()
            if isinstance(found, FerserveError):
                received.answer(found)
            elif found is not None and lease is not None:  # both, wherever a frame was chosen without an error
                scored = await outcome_of(self._analyzer.score(found, received.time_s, lease))
                received.answer(*((scored,) if isinstance(scored, FerserveError) else scored))
        self._window.finished()
        self._start_what_may()

    def _pick(self) -> _Received | None:
        expired, chosen = self._window.pick(self._clock.now())
        for sequence_id in expired:
            self._waiting.pop(sequence_id).answer(Dropped(0))
        self._chosen.set()
        return None if chosen is None else self._waiting.pop(chosen)


def _end_trace(trace: CallTrace, received: _Received, kind: str) -> None:
    trace.set_attribute("ferserve.sequence_id", received.frame.sequence_id)
    trace.set_attribute("ferserve.outcome", kind)
    trace.end("", received.outcome.reason if isinstance(received.outcome, FerserveError) else "")


def kind_of(outcome: FrameAnalysis | Unchanged | Dropped | FerserveError) -> str:
    """Names the kind of an answer for metrics."""
    match outcome:
        case Dropped(newer_sequence_id=newer):
            return "dropped_newer" if newer else "dropped_too_old"
        case FerserveError():
            return "failed"
        case Unchanged():
            return "unchanged"
    return "result"


def check_rising(last: int, sequence_id: int) -> None:
    """Rejects a sequence number that is not above the last one (-1 before the first).

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
