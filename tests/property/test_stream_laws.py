"""Tests laws of a stream: every message gets one answer, in order, under any timing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.errors import DrainingError, ImageUnreadableError
from ferserve_server.domain.face import DetectionOptions
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.frame_answers import Dropped, Frame, FrameAnswer, FrameStreamConfig
from ferserve_server.pipeline.stream_frames import FrameStream, StreamFrames, StreamLimits
from ferserve_server.pipeline.stream_window import OverloadPolicy, StreamWindow
from ferserve_server.tracking.options import DEFAULT_TRACKING
from support.fake_clock import FakeClock, settle
from support.pipeline_fakes import FakeModels, FakeScorer, FakeVision
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLICIES = st.sampled_from(OverloadPolicy)


EVENTS = st.lists(st.sampled_from(["arrive", "pick", "searched", "finish", "wait"]), max_size=80)


@given(POLICIES, st.integers(1, 3), st.booleans(), EVENTS)
def test_a_frame_is_searched_dropped_or_waits_and_never_two_of_these(  # noqa: C901 - one branch per event
    policy: OverloadPolicy, max_running: int, in_order: bool, events: list[str]
) -> None:
    window = StreamWindow(policy, max_running, max_age_s=2.5, in_order=in_order)
    now, arrived_at, picked, dropped, searching, running, asked = 0.0, [], [], [], 0, 0, 0
    for event in events:
        if event == "arrive":
            gone = window.arrived(len(arrived_at), now)
            arrived_at.append(now)
            dropped += [] if gone is None else [gone]
        elif event == "pick" and asked:
            expired, chosen = window.pick(now)
            asked -= 1
            dropped += expired
            assert all(now - arrived_at[each] > 2.5 for each in expired)
            if chosen is not None:
                picked.append(chosen)
                searching, running = searching + 1, running + 1
                assert policy is not OverloadPolicy.MAX_AGE or now - arrived_at[chosen] <= 2.5
        elif event == "searched" and searching:
            window.searched()
            searching -= 1
        elif event == "finish" and running > searching:
            window.finished()
            running -= 1
        elif event == "wait":
            now += 1.0
        while window.ask():
            asked += 1
        waiting = set(range(len(arrived_at))) - set(picked) - set(dropped)
        assert len(set(picked) | set(dropped)) == len(picked) + len(dropped)
        assert picked == sorted(picked)
        assert running + asked <= max_running
        assert searching + asked <= (1 if in_order else max_running)
        assert not waiting or asked or running == max_running or searching == (1 if in_order else max_running)
        if policy is OverloadPolicy.EVERY_FRAME:
            assert dropped == []
        else:
            assert waiting <= {len(arrived_at) - 1}
    if policy is not OverloadPolicy.MAX_AGE:
        assert len(arrived_at) - 1 not in dropped


STEPS = st.lists(st.sampled_from(["send", "send", "send broken", "finish first", "finish last"]), max_size=25)


class Play:
    """A frame stream that is driven step by step; frame n is the picture of n as two bytes."""

    def __init__(self, policy: OverloadPolicy, limits: StreamLimits, *, tracks: bool = False) -> None:
        self.vision = FakeVision()
        self.draining = asyncio.Event()
        self.inbox: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.sent = 0
        self.answers: list[FrameAnswer] = []
        models = FakeModels(FakeScorer())
        config = FrameStreamConfig(
            ModelSpec(), policy, DetectionOptions(), max_age_s=60, tracking=DEFAULT_TRACKING if tracks else None
        )
        frames = StreamFrames(models.acquire, self.vision, limits, FakeClock(), Recorder())
        stream = frames.open(config, self.draining)
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
        elif held := [image for image in self.vision.began if not self.vision.unblocked[image].is_set()]:
            self.vision.unblocked[held[0 if what == "finish first" else -1]].set()
        await settle(15)

    async def let_all_finish(self) -> None:
        while not self.task.done():
            for unblocked_one in self.vision.unblocked.values():
                unblocked_one.set()
            await settle(15)


@given(POLICIES, st.booleans(), st.integers(1, 3), st.integers(1, 8), STEPS)
def test_every_frame_gets_one_answer_in_order(
    policy: OverloadPolicy, tracks: bool, max_running: int, max_unanswered: int, steps: list[str]
) -> None:
    async def play() -> None:
        stream = Play(policy, StreamLimits(max_unanswered, max_running), tracks=tracks)
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
