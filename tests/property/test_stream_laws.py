"""Laws of a stream: every message gets one answer, in order, whatever the timing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.errors import DrainingError, ImageUnreadableError
from ferserve_server.domain.face import DetectionOptions
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from ferserve_server.pipeline.stream_frames import (
    Dropped,
    Frame,
    FrameAnswer,
    FrameStream,
    FrameStreamConfig,
    StreamLimits,
)
from ferserve_server.pipeline.stream_window import OverloadPolicy, StreamWindow
from support.fake_clock import settle
from support.pipeline_fakes import FakeModels, FakeScorer, FakeVision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLICIES = st.sampled_from(OverloadPolicy)


@given(POLICIES, st.integers(1, 3), st.lists(st.booleans(), max_size=60))
def test_a_frame_is_started_dropped_or_waits_and_never_two_of_these(
    policy: OverloadPolicy, max_running: int, arrivals: list[bool]
) -> None:
    window = StreamWindow(policy, max_running)
    arrived, started, dropped, running = 0, [], [], 0
    for arrives in arrivals:
        if arrives:
            gone = window.arrived(arrived)
            arrived += 1
            dropped += [] if gone is None else [gone]
        elif running:
            window.finished()
            running -= 1
        while (frame := window.start_next()) is not None:
            started.append(frame)
            running += 1
        waiting = set(range(arrived)) - set(started) - set(dropped)
        assert len(set(started) | set(dropped)) == len(started) + len(dropped)
        assert started == sorted(started)
        assert running <= max_running
        assert not waiting or running == max_running
        if policy is OverloadPolicy.LATEST:
            assert waiting <= {arrived - 1}
        else:
            assert dropped == []
    if policy is OverloadPolicy.LATEST:
        assert arrived - 1 not in dropped


STEPS = st.lists(st.sampled_from(["send", "send", "send broken", "finish first", "finish last"]), max_size=25)


class Play:
    """A frame stream that is driven step by step; frame n is the picture of n as two bytes."""

    def __init__(self, policy: OverloadPolicy, limits: StreamLimits) -> None:
        self.vision = FakeVision()
        self.draining = asyncio.Event()
        self.inbox: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.sent = 0
        self.answers: list[FrameAnswer] = []
        models = FakeModels(FakeScorer())
        config = FrameStreamConfig(ModelSpec(), policy, DetectionOptions())
        stream = FrameStream(AnalyzeImages(models.acquire, self.vision), config, limits, self.draining)
        self.task = asyncio.create_task(self._run(stream))

    async def _read(self) -> AsyncIterator[Frame]:
        while (frame := await self.inbox.get()) is not None:
            yield frame

    async def _run(self, stream: FrameStream) -> None:
        async with contextlib.aclosing(stream.run(self._read())) as answers:
            async for answer in answers:
                self.answers.append(answer)

    async def step(self, what: str) -> None:
        if what.startswith("send"):
            image = self.sent.to_bytes(2, "big")
            self.vision.hold(image)
            if what == "send broken":
                self.vision.errors[image] = ImageUnreadableError("cut")
            self.inbox.put_nowait(Frame(self.sent, image))
            self.sent += 1
        elif held := [image for image in self.vision.began if not self.vision.gates[image].is_set()]:
            self.vision.gates[held[0 if what == "finish first" else -1]].set()
        await settle(15)

    async def let_all_finish(self) -> None:
        while not self.task.done():
            for validation in self.vision.gates.values():
                validation.set()
            await settle(15)


@given(POLICIES, st.integers(1, 3), st.integers(1, 8), STEPS)
def test_every_frame_gets_one_answer_in_order(
    policy: OverloadPolicy, max_running: int, max_unanswered: int, steps: list[str]
) -> None:
    async def play() -> None:
        stream = Play(policy, StreamLimits(max_unanswered, max_running))
        for step in steps:
            await stream.step(step)
        stream.inbox.put_nowait(None)
        await stream.let_all_finish()
        await stream.task
        assert [answer.sequence_id for answer in stream.answers] == list(range(stream.sent))
        dropped = [answer for answer in stream.answers if isinstance(answer.outcome, Dropped)]
        if policy is OverloadPolicy.EVERY_FRAME:
            assert dropped == []
        assert all(answer.outcome.newer_sequence_id > answer.sequence_id for answer in dropped)
        if stream.answers:
            assert not isinstance(stream.answers[-1].outcome, Dropped)
        analysed = [int.from_bytes(image, "big") for image in stream.vision.began]
        assert sorted(analysed + [answer.sequence_id for answer in dropped]) == list(range(stream.sent))

    asyncio.run(play())


@given(POLICIES, st.integers(1, 3), st.integers(1, 8), STEPS, STEPS)
def test_draining_tells_the_last_answer_and_nothing_that_was_read_is_lost(
    policy: OverloadPolicy, max_running: int, max_unanswered: int, before: list[str], after: list[str]
) -> None:
    async def play() -> None:
        stream = Play(policy, StreamLimits(max_unanswered, max_running))
        await settle()
        for step in before:
            await stream.step(step)
        stream.draining.set()
        for step in after:
            await stream.step(step)
        await stream.let_all_finish()
        error = stream.task.exception()
        assert isinstance(error, DrainingError)
        answered = [answer.sequence_id for answer in stream.answers]
        assert answered == list(range(stream.sent - stream.inbox.qsize()))
        assert error.metadata == {"last_sequence_id": str(len(answered) - 1)}

    asyncio.run(play())
