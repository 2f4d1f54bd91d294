"""Streams of frames and of crops: one answer each, in order, whatever happens to their neighbours."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ferserve_server.domain.errors import (
    DrainingError,
    ImageUnreadableError,
    InvalidRequestError,
    ModelNotReadyError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.classify_stream import CropMessage
from ferserve_server.pipeline.stream_frames import Frame
from ferserve_server.pipeline.stream_window import OverloadPolicy
from support.fake_clock import settle
from support.stream_bench import Bench

FULL = QueueFullError(what="faces", queued=9, limit=9, setting="max_queue_faces", retry_after_s=0.1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _crops(sequence_id: int, *classes: int) -> CropMessage:
    crops = np.zeros((len(classes), 48, 48, 1), np.uint8)
    crops[:, 0, 0, 0] = classes
    return CropMessage(sequence_id, crops, ModelSpec(), Priority.BULK)


async def test_frames_are_answered_in_order_although_a_later_one_is_ready_first(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_running=2)
    bench.vision.hold(b"\0", b"\1")
    await bench.send_frames(0, 1)
    await bench.finish(1)
    assert bench.told == []
    await bench.finish(0)
    assert bench.told == [(0, "0"), (1, "1")]
    await bench.send(None)
    await task


async def test_blocking_analyses_every_frame(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
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
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_running=2)
    bench.vision.hold(*(bytes([number]) for number in range(4)))
    await bench.send_frames(0, 1, 2, 3)
    assert bench.vision.began == [b"\0", b"\1"]
    await bench.finish(1)
    assert bench.vision.began == [b"\0", b"\1", b"\2"]
    await bench.finish(0, 2, 3)
    await bench.send(None)
    await task


async def test_frames_are_not_read_beyond_the_bound(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_unanswered=2)
    bench.vision.hold(b"\0")
    await bench.send_frames(0, 1, 2, 3)
    assert bench.inbox.qsize() == 2
    await bench.finish(0)
    await bench.send(None)
    await task
    assert [number for number, _ in bench.told] == [0, 1, 2, 3]


async def test_a_broken_frame_fails_in_its_place_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.errors = {b"\1": ImageUnreadableError("cut")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.told == [(0, "0"), (1, "IMAGE_UNREADABLE"), (2, "2")]


async def test_a_refusal_of_the_server_fails_the_frame_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
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
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.errors = {b"\1": RuntimeError("/secret/path")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.told == [(0, "0"), (1, "INTERNAL"), (2, "2")]
    (failure,) = bench.answers[1].outcome.results
    assert "/secret/path" not in failure.message


@pytest.mark.parametrize("second", [4, 3, -1])
async def test_numbers_must_rise_and_what_came_before_is_answered(bench: Bench, second: int) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
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
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
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
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.hold(b"\0")
    await bench.send_frames(0)
    await bench.send(None)
    bench.draining.set()
    await bench.finish(0)
    await task
    assert bench.told == [(0, "0")]


async def test_leaving_cancels_the_frames_that_are_analysed_and_returns_their_leases(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_running=2)
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
