"""Streams of frames and of crops: one answer each, in order, whatever happens to their neighbours."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ferserve_server.domain.detection import DetectionOptions
from ferserve_server.domain.errors import (
    DrainingError,
    FerserveError,
    ImageUnreadableError,
    InvalidRequestError,
    ModelNotReadyError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import Analyses, Classification
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from ferserve_server.pipeline.classify_stream import CropMessage, CropStream
from ferserve_server.pipeline.stream_frames import (
    Dropped,
    Frame,
    FrameStream,
    FrameStreamConfig,
    StreamLimits,
)
from ferserve_server.pipeline.stream_window import OverloadPolicy
from support.fake_clock import settle
from support.pipeline_fakes import FakeModels, FakeScorer, FakeVision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SPEC = ModelSpec()
FULL = QueueFullError(what="faces", queued=9, limit=9, setting="max_queue_faces", retry_after_s=0.1)


class Bench:
    """A stream whose sender is the test. Frame n is the picture `bytes([n])`."""

    def __init__(self) -> None:
        self.scorer = FakeScorer()
        self.models = FakeModels(self.scorer)
        self.vision = FakeVision()
        self.draining = asyncio.Event()
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.answers: list[Any] = []
        self.task: asyncio.Task[None] | None = None

    def open_frames(
        self, policy: OverloadPolicy, *, max_running: int = 1, max_unanswered: int = 64
    ) -> asyncio.Task[None]:
        config = FrameStreamConfig(SPEC, policy, DetectionOptions())
        analyze = AnalyzeImages(self.models.acquire, self.vision)
        stream = FrameStream(analyze, config, StreamLimits(max_unanswered, max_running), self.draining)
        return self._open(stream)

    def open_crops(self, *, max_unanswered: int = 64) -> asyncio.Task[None]:
        classify = ClassifyFaces(self.models.acquire, self.vision)
        return self._open(CropStream(classify, max_unanswered=max_unanswered, draining=self.draining))

    def _open(self, stream: FrameStream | CropStream) -> asyncio.Task[None]:
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
            self.vision.gates[bytes([each])].set()
            await settle()

    @property
    def told(self) -> list[tuple[int, str]]:
        """What was answered: the frame, and its class, `-> newer` if it was dropped, or why it failed."""
        return [(answer.sequence_id, _told(answer.outcome)) for answer in self.answers]


def _told(outcome: object) -> str:
    match outcome:
        case Dropped(newer_sequence_id=newer):
            return f"-> {newer}"
        case FerserveError() as error:
            return error.reason
        case Analyses(results=(FerserveError() as error,)):
            return error.reason
        case Analyses(results=(result,)):
            assert not isinstance(result, FerserveError)
            return str(result.faces.scores.argmax())
        case Classification(faces=faces):
            return " ".join(map(str, faces.scores.argmax(axis=1)))
    raise AssertionError(outcome)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _crops(sequence_id: int, *classes: int) -> CropMessage:
    crops = np.zeros((len(classes), 48, 48, 1), np.uint8)
    crops[:, 0, 0, 0] = classes
    return CropMessage(sequence_id, crops, SPEC, Priority.BULK)


async def test_frames_are_answered_in_order_although_a_later_one_is_ready_first(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK, max_running=2)
    bench.vision.hold(b"\0", b"\1")
    await bench.send_frames(0, 1)
    await bench.finish(1)
    assert bench.told == []
    await bench.finish(0)
    assert bench.told == [(0, "0"), (1, "1")]
    await bench.send(None)
    await task


async def test_blocking_analyses_every_frame(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    await bench.send_frames(*range(20))
    await bench.send(None)
    await task
    assert bench.told == [(number, str(number % 7)) for number in range(20)]


async def test_latest_skips_what_gave_way_to_a_newer_frame_and_says_to_which(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.LATEST)
    bench.vision.hold(b"\0")
    await bench.send_frames(0, 1, 2, 5)
    await bench.finish(0)
    await bench.send(None)
    await task
    assert bench.told == [(0, "0"), (1, "-> 2"), (2, "-> 5"), (5, "5")]
    assert bench.vision.began == [b"\0", b"\5"]


async def test_no_more_frames_run_at_once_than_may(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK, max_running=2)
    bench.vision.hold(*(bytes([number]) for number in range(4)))
    await bench.send_frames(0, 1, 2, 3)
    assert bench.vision.began == [b"\0", b"\1"]
    await bench.finish(1)
    assert bench.vision.began == [b"\0", b"\1", b"\2"]
    await bench.finish(0, 2, 3)
    await bench.send(None)
    await task


async def test_frames_are_not_read_beyond_the_bound(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK, max_unanswered=2)
    bench.vision.hold(b"\0")
    await bench.send_frames(0, 1, 2, 3)
    assert bench.inbox.qsize() == 2
    await bench.finish(0)
    await bench.send(None)
    await task
    assert [number for number, _ in bench.told] == [0, 1, 2, 3]


async def test_a_broken_frame_fails_in_its_place_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.vision.errors = {b"\1": ImageUnreadableError("cut")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.told == [(0, "0"), (1, "IMAGE_UNREADABLE"), (2, "2")]


async def test_a_refusal_of_the_server_fails_the_frame_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.models.refuse_with = ModelNotReadyError("x")
    await bench.send_frames(0)
    bench.models.refuse_with = None
    bench.scorer.refuse_with = FULL
    await bench.send_frames(1)
    bench.scorer.refuse_with = None
    await bench.send_frames(2)
    await bench.send(None)
    await task
    assert bench.told == [(0, "MODEL_NOT_READY"), (1, "QUEUE_FULL"), (2, "2")]


async def test_an_unforeseen_error_on_a_frame_fails_it_alone_and_is_hidden(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.vision.errors = {b"\1": RuntimeError("/secret/path")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.told == [(0, "0"), (1, "INTERNAL"), (2, "2")]
    assert "/secret/path" not in bench.answers[1].outcome.message


@pytest.mark.parametrize("second", [4, 3, -1])
async def test_numbers_must_rise_and_what_came_before_is_answered(bench: Bench, second: int) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.vision.hold(b"\4")
    await bench.send(Frame(4, b"\4"), Frame(second, b"\5"))
    await bench.finish(4)
    with pytest.raises(InvalidRequestError) as caught:
        await task
    assert caught.value.reason == "SEQUENCE_NOT_RISING"
    assert caught.value.metadata == {"sequence_id": str(second), "last_sequence_id": "4"}
    assert bench.told == [(4, "4")]


async def test_the_first_number_may_not_be_negative(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.LATEST)
    await bench.send(Frame(-1, b"\1"))
    with pytest.raises(InvalidRequestError):
        await task


async def test_draining_answers_the_frames_it_took_and_tells_the_last(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.vision.hold(b"\2")
    await bench.send_frames(0, 2, 4)
    bench.draining.set()
    await settle()
    await bench.send_frames(6)
    await bench.finish(2)
    with pytest.raises(DrainingError) as caught:
        await task
    assert [number for number, _ in bench.told] == [0, 2, 4]
    assert caught.value.metadata == {"last_sequence_id": "4"}


async def test_draining_before_any_frame_tells_minus_one(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.LATEST)
    await settle()
    bench.draining.set()
    with pytest.raises(DrainingError) as caught:
        await task
    assert caught.value.metadata == {"last_sequence_id": "-1"}


async def test_a_stream_whose_sender_was_done_ends_well_also_while_draining(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK)
    bench.vision.hold(b"\0")
    await bench.send_frames(0)
    await bench.send(None)
    bench.draining.set()
    await bench.finish(0)
    await task
    assert bench.told == [(0, "0")]


async def test_leaving_cancels_the_frames_that_are_analysed_and_returns_their_leases(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.BLOCK, max_running=2)
    bench.vision.hold(b"\0", b"\1")
    await bench.send_frames(0, 1, 2)
    assert bench.models.is_leased
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert sorted(bench.vision.cancelled) == [b"\0", b"\1"]
    assert bench.vision.began == [b"\0", b"\1"]
    assert not bench.models.is_leased


async def test_crop_requests_are_answered_in_order(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(*(_crops(number, number % 7, (number + 1) % 7) for number in range(10)))
    await bench.send(None)
    await task
    assert bench.told == [(number, f"{number % 7} {(number + 1) % 7}") for number in range(10)]
    assert set(bench.scorer.priorities) == {Priority.BULK}


async def test_a_refused_crop_request_is_answered_in_its_place(bench: Bench) -> None:
    task = bench.open_crops()
    refusal = InvalidRequestError("FACES_REQUIRED", "none", field="faces.face_count")
    await bench.send(_crops(0, 1), CropMessage.refused(1, refusal), _crops(2, 3), None)
    await task
    assert bench.told == [(0, "1"), (1, "FACES_REQUIRED"), (2, "3")]


async def test_a_full_queue_fails_the_crop_request_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_crops()
    bench.scorer.refuse_with = FULL
    await bench.send(_crops(0, 1))
    bench.scorer.refuse_with = None
    await bench.send(_crops(1, 1), None)
    await task
    assert bench.told == [(0, "QUEUE_FULL"), (1, "1")]


async def test_an_unforeseen_error_on_a_crop_request_fails_it_alone_and_is_hidden(bench: Bench) -> None:
    task = bench.open_crops()
    bench.scorer.refuse_with = RuntimeError("/secret/path")
    await bench.send(_crops(0, 1))
    bench.scorer.refuse_with = None
    await bench.send(_crops(1, 1), None)
    await task
    assert bench.told == [(0, "INTERNAL"), (1, "1")]
    assert "/secret/path" not in bench.answers[0].outcome.message


async def test_numbers_of_crop_requests_must_rise(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(_crops(3, 1), _crops(3, 1))
    with pytest.raises(InvalidRequestError):
        await task
    assert bench.told == [(3, "1")]


async def test_draining_ends_a_crop_stream_with_the_last_number_answered(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(_crops(7, 1), _crops(8, 2))
    bench.draining.set()
    with pytest.raises(DrainingError) as caught:
        await task
    assert caught.value.metadata == {"last_sequence_id": "8"}
    assert bench.told == [(7, "1"), (8, "2")]


async def test_a_crop_stream_whose_sender_was_done_ends_well_also_while_draining(bench: Bench) -> None:
    task = bench.open_crops()
    bench.inbox.put_nowait(_crops(0, 1))
    bench.inbox.put_nowait(None)
    await settle(3)
    bench.draining.set()
    await task
    assert bench.told == [(0, "1")]
