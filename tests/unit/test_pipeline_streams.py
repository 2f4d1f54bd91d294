"""Tests streams of frames and of crops: one answer each, in order, whatever happens to their neighbours."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ferserve_server.domain import metrics
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
from ferserve_server.pipeline.frame_answers import Frame
from ferserve_server.pipeline.intake_pace import BURST_COUNT, DROPS_PER_S, IntakePace
from ferserve_server.pipeline.stream_window import OverloadPolicy
from ferserve_server.tracking.options import DEFAULT_TRACKING
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
    assert bench.reported == []
    await bench.finish(0)
    assert bench.reported == [(0, "0"), (1, "1")]
    await bench.send(None)
    await task


async def test_blocking_analyses_every_frame(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    await bench.send_frames(*range(20))
    await bench.send(None)
    await task
    assert bench.reported == [(number, str(number % 7)) for number in range(20)]


async def test_latest_skips_what_gave_way_to_a_newer_frame_and_says_to_which(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.LATEST)
    bench.vision.hold(b"\0")
    await bench.send_frames(0)
    await bench.send_frames(1, 2, 5)
    await bench.finish(0)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "0"), (1, "-> 2"), (2, "-> 5"), (5, "5")]
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
    assert [number for number, _ in bench.reported] == [0, 1, 2, 3]


async def test_a_broken_frame_fails_in_its_place_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.errors = {b"\1": ImageUnreadableError("cut")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "0"), (1, "IMAGE_UNREADABLE"), (2, "2")]


async def test_a_rejection_of_the_server_fails_the_frame_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.models.reject_with = ModelNotReadyError("x")
    await bench.send_frames(0)
    bench.models.reject_with = None
    bench.scorer.reject_with = FULL
    await bench.send_frames(1)
    bench.scorer.reject_with = None
    await bench.send_frames(2)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "MODEL_NOT_READY"), (1, "QUEUE_FULL"), (2, "2")]


async def test_an_unforeseen_error_on_a_frame_fails_it_alone_and_is_hidden(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.errors = {b"\1": RuntimeError("/secret/path")}
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "0"), (1, "INTERNAL"), (2, "2")]
    assert "/secret/path" not in bench.answers[1].outcome.message


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
    assert bench.reported == [(4, "4")]


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
    assert [number for number, _ in bench.reported] == [0, 2, 4]
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
    assert bench.reported == [(0, "0")]


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


async def test_ages_are_counted_from_the_arrival_and_times_from_the_first_frame(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    bench.vision.hold(b"\1")
    await bench.send_frames(0)
    bench.clock.advance(2.0)
    await bench.send_frames(1)
    bench.clock.advance(0.5)
    await bench.finish(1)
    await bench.send(Frame(2, b"\2", time_s=7.5), None)
    await task
    assert [(answer.time_s, answer.age_s) for answer in bench.answers] == [(0.0, 0.0), (2.0, 0.5), (7.5, 0.0)]
    assert bench.recorder.of(metrics.STREAM_FRAME_AGE_SECONDS) == [
        ("result", 0.0),
        ("result", 0.5),
        ("result", 0.0),
    ]


@pytest.mark.parametrize("time_s", [0.9, float("nan"), float("inf")])
async def test_a_time_that_falls_or_is_none_ends_the_stream_after_what_came_before(
    bench: Bench, time_s: float
) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME)
    await bench.send(Frame(0, b"\0", time_s=1.0), Frame(1, b"\1", time_s=1.0), Frame(2, b"\2", time_s=time_s))
    with pytest.raises(InvalidRequestError) as caught:
        await task
    assert (caught.value.reason, caught.value.field) == ("TIME_INVALID", "frame.time_s")
    assert bench.reported == [(0, "0"), (1, "1")]


async def test_a_frame_that_waited_too_long_is_given_up_also_without_a_newer_one(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.MAX_AGE, max_age_s=0.1)
    bench.vision.hold(b"\0")
    await bench.send_frames(0)
    await bench.send_frames(1, 2)
    bench.clock.advance(0.2)
    await bench.finish(0)
    await bench.send_frames(3)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "0"), (1, "-> 2"), (2, "-> 0"), (3, "3")]
    ages = bench.recorder.labels_of(metrics.STREAM_FRAME_AGE_SECONDS)
    assert ages == [("result",), ("dropped",), ("dropped",), ("result",)]
    assert bench.recorder.labels_of(metrics.STREAM_FRAMES_DROPPED) == [("newer",), ("too_old",)]


async def test_no_more_frames_are_read_to_be_dropped_than_the_process_can_afford(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.LATEST, max_unanswered=1000)
    bench.vision.hold(b"\0")
    await bench.send_frames(0)
    await bench.send_frames(*range(1, 150))
    await settle(500)
    read_before = 149 - bench.inbox.qsize()
    assert BURST_COUNT <= read_before <= BURST_COUNT + 5
    await bench.finish(0)  # the frame that waits is chosen, so the next one is read
    assert bench.inbox.qsize() < 149 - read_before
    bench.clock.advance(10.0)
    await bench.send(None)
    await task
    assert [number for number, _ in bench.reported] == list(range(150))


@pytest.mark.parametrize("rate", [10.0, 100.0, 1000.0])
def test_the_rate_of_dropped_frames_is_bounded_and_slower_ones_never_wait(rate: float) -> None:
    pace = IntakePace()
    waits = [pace.wait_s(number / rate) for number in range(int(10 * rate))]
    allowed = sum(not wait for wait in waits)
    assert allowed <= 10 * DROPS_PER_S + BURST_COUNT
    assert rate > DROPS_PER_S or allowed == len(waits)
    assert all(0 <= wait <= 1 / DROPS_PER_S for wait in waits)


async def test_a_resumed_stream_goes_on_with_its_numbers_and_says_that_tracks_began_again(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, tracking=DEFAULT_TRACKING, resumed_after_sequence_id=4)
    await bench.send_frames(5, 6)
    bench.draining.set()
    with pytest.raises(DrainingError) as caught:
        await task
    assert [answer.tracks_restarted for answer in bench.answers] == [True, False]
    assert caught.value.metadata == {"last_sequence_id": "6"}


async def test_a_resumed_stream_that_answered_nothing_tells_the_number_it_was_resumed_after(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, resumed_after_sequence_id=4)
    await settle()
    bench.draining.set()
    with pytest.raises(DrainingError) as caught:
        await task
    assert caught.value.metadata == {"last_sequence_id": "4"}


async def test_a_resumed_stream_does_not_take_old_numbers(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, resumed_after_sequence_id=4)
    await bench.send_frames(4)
    with pytest.raises(InvalidRequestError) as caught:
        await task
    assert caught.value.reason == "SEQUENCE_NOT_RISING"


@pytest.mark.parametrize(
    ("policy", "config", "field"),
    [
        (OverloadPolicy.LATEST, {"events_only": True}, "events_only"),
        (OverloadPolicy.MAX_AGE, {}, "max_age_ms"),
        (OverloadPolicy.LATEST, {"resumed_after_sequence_id": -2}, "resumed_after_sequence_id"),
    ],
)
async def test_options_that_do_not_fit_together_are_rejected(bench: Bench, policy, config, field) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        bench.open_frames(policy, **config)
    assert caught.value.field == field


async def test_tracked_faces_have_a_number_a_steady_and_a_raw_prediction(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, tracking=DEFAULT_TRACKING)
    await bench.send(*(Frame(number, bytes([3 if number else 2]), number / 100) for number in range(3)), None)
    await task
    (first,), (second,), (third,) = (answer.outcome.tracks for answer in bench.answers)
    assert first.track_id == second.track_id == third.track_id == 1
    assert [each.steady.label for each in (first, second, third)] == [2, 2, 2]
    assert bench.reported == [(0, "2"), (1, "3"), (2, "3")]  # raw
    assert [[event.type.value for event in answer.events] for answer in bench.answers] == [["appeared"], [], []]


async def test_events_only_answers_frames_without_an_event_as_unchanged(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, tracking=DEFAULT_TRACKING, events_only=True)
    await bench.send(*(Frame(number, b"\3", number / 30) for number in range(3)))
    await bench.send(*(Frame(number, b"\4", number / 30) for number in range(3, 13)), None)
    await task
    reported = [what for _, what in bench.reported]
    assert (reported[0], reported.count("4")) == ("3", 1)
    assert set(reported) == {"3", "unchanged", "4"}
    assert bench.recorder.of(metrics.STREAM_FRAME_AGE_SECONDS).count(("unchanged", 0.0)) == 11


async def test_scores_count_in_the_order_of_the_frames_whichever_are_ready_first(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_running=2, tracking=DEFAULT_TRACKING)
    unblocked = asyncio.Event()
    bench.scorer.hold_next = unblocked
    await bench.send(Frame(0, b"\3", 0.0), Frame(1, b"\5", 0.01))
    assert bench.scorer.taken == [1, 1]  # the second frame is searched and scored while the first waits for scores
    assert bench.reported == []
    unblocked.set()
    await bench.send(None)
    await task
    assert [answer.outcome.tracks[0].steady.label for answer in bench.answers] == [3, 3]


@pytest.mark.parametrize("tracking", [None, DEFAULT_TRACKING])
async def test_a_crop_that_shows_no_face_is_dropped_from_its_frame(bench: Bench, tracking) -> None:
    bench.judge_faces()
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, tracking=tracking)
    await bench.send(Frame(0, b"\0", 0.0), Frame(1, b"\3", 1.0), None)  # a crop of one grey level, and a face
    await task
    assert [len(answer.outcome.image.locations) for answer in bench.answers] == [0, 1]


async def test_a_face_whose_crop_shows_none_for_a_moment_keeps_its_place(bench: Bench) -> None:
    bench.judge_faces()
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, tracking=DEFAULT_TRACKING)
    images = [b"\3", b"\0", b"\0"]
    await bench.send(*(Frame(number, image, number / 8) for number, image in enumerate(images)), None)
    await task
    tracks = [answer.outcome.tracks for answer in bench.answers]
    assert [[(each.steady.label, each.carried) for each in shown] for shown in tracks] == [
        [(3, False)],
        [(3, True)],
        [],
    ]


async def test_frames_fail_and_none_is_lost_when_the_threads_are_closed(bench: Bench) -> None:
    task = bench.open_frames(OverloadPolicy.EVERY_FRAME, max_running=2)
    bench.vision.closed = True
    await bench.send_frames(0, 1, 2)
    await bench.send(None)
    await task
    assert bench.reported == [(0, "DRAINING"), (1, "DRAINING"), (2, "DRAINING")]
