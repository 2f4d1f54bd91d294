"""Runs a stream whose sender is the test, and records its answers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.face import DetectionOptions
from ferserve_server.domain.prediction import Classification
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from ferserve_server.pipeline.classify_stream import CropSequence, CropStream
from ferserve_server.pipeline.frame_answers import Dropped, Frame, FrameAnalysis, FrameStreamConfig, Unchanged
from ferserve_server.pipeline.stream_frames import FrameStream, StreamFrames, StreamLimits
from support.fake_clock import FakeClock, settle
from support.pipeline_fakes import FakeModels, FakeScorer, FakeVision
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.pipeline.stream_window import OverloadPolicy

SPEC = ModelSpec()


class Bench:
    """A stream whose sender is the test. Frame n is the picture `bytes([n])`."""

    def __init__(self) -> None:
        self.scorer = FakeScorer()
        self.models = FakeModels(self.scorer)
        self.vision = FakeVision()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.draining = asyncio.Event()
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.answers: list[Any] = []
        self.task: asyncio.Task[None] | None = None

    def judge_faces(self) -> None:
        """Lets the version tell which crops show no face: those of one grey level."""
        self.scorer.description = replace(
            self.scorer.description, not_a_face_output="not_a_face", not_a_face_threshold=0.5
        )
        self.models = FakeModels(self.scorer)

    def open_frames(
        self, policy: OverloadPolicy, *, max_running: int = 1, max_unanswered: int = 64, **config: Any
    ) -> asyncio.Task[None]:
        limits = StreamLimits(max_unanswered, max_running)
        frames = StreamFrames(self.models.acquire, self.vision, limits, self.clock, self.recorder)
        chosen = FrameStreamConfig(SPEC, policy, DetectionOptions(), **config)
        return self._open(frames.open(chosen, self.draining))

    def open_crops(self, *, max_unanswered: int = 64) -> asyncio.Task[None]:
        classify = ClassifyFaces(self.models.acquire, self.vision)
        sequence: CropSequence[Any, Any] = CropSequence(
            classify, read=lambda message: message, write=lambda answer: answer
        )
        return self._open(CropStream(sequence, max_unanswered=max_unanswered, draining=self.draining))

    def _open(self, stream: FrameStream | CropStream[Any, Any]) -> asyncio.Task[None]:
        async def read() -> AsyncIterator[Any]:
            while (message := await self.inbox.get()) is not None:
                yield message

        async def run() -> None:
            async with contextlib.aclosing(stream.run(read())) as answers:
                async for answer in answers:
                    self.answers.append(answer)

        self.task = asyncio.create_task(run())
        return self.task

    async def send(self, *messages: object) -> None:
        for message in messages:
            self.inbox.put_nowait(message)
        await settle()

    async def send_frames(self, *sequence_ids: int) -> None:
        await self.send(*(Frame(each, bytes([each])) for each in sequence_ids))

    async def finish(self, *sequence_ids: int) -> None:
        for each in sequence_ids:
            self.vision.unblocked[bytes([each])].set()
            await settle()

    @property
    def reported(self) -> list[tuple[int, str]]:
        """What was answered: the frame, and its class, `-> newer` if it was dropped, or why it failed."""
        return [(answer.sequence_id, _reported(answer.outcome)) for answer in self.answers]


def _reported(outcome: object) -> str:
    match outcome:
        case Dropped(newer_sequence_id=newer):
            return f"-> {newer}"
        case FerserveError() as error:
            return error.reason
        case Unchanged():
            return "unchanged"
        case FrameAnalysis(image=image):
            return str(image.faces.scores.argmax())
        case Classification(faces=faces):
            return " ".join(map(str, faces.scores.argmax(axis=1)))
    raise AssertionError(outcome)
