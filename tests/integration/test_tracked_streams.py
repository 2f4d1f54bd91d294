"""Tests streams with tracking over a real socket: numbers, steady and raw scores, events, freshness, metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.backends.fake import FakeLoader
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, LocalServer, eventually, local_server, rejection_of
from support.pictures import ASTRONAUT, encode
from support.tiers import detection_tier
from support.worker_server import callers, metric, worker_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

WHOLE = face_pb2.DetectionOptions(face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE)
TRACKING = emotion_pb2.TrackingOptions(enabled=True)
APPEARED, CHANGED = emotion_pb2.TRACK_EVENT_TYPE_APPEARED, emotion_pb2.TRACK_EVENT_TYPE_CHANGED


@pytest.fixture(params=GRPC_SERVERS)
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path)
    chosen = {"grpc_server": str(request.param), "metrics_listen": "127.0.0.1:0"}
    async with asyncio.timeout(60), local_server(tmp_path, **chosen) as running:
        yield running


def _config(**fields: Any) -> emotion_pb2.StreamFramesRequest:
    chosen: dict[str, Any] = {
        "overload_policy": emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME,
        "detection": WHOLE,
        "tracking": TRACKING,
    }
    return emotion_pb2.StreamFramesRequest(config=emotion_pb2.FrameStreamConfig(**chosen | fields))


def _face(label: int) -> bytes:
    face = np.zeros((48, 48), np.uint8)
    face[0, 0] = label
    return encode(face, "PNG")


def _frames(labels: Iterable[int], first: int = 0) -> list[emotion_pb2.StreamFramesRequest]:
    """Frames at 30 per second, each with a face of that class."""
    return [
        emotion_pb2.StreamFramesRequest(
            frame=emotion_pb2.Frame(sequence_id=number, image=_face(label), time_s=number / 30)
        )
        for number, label in enumerate(labels, first)
    ]


async def _answers(
    stub: Any, *requests: emotion_pb2.StreamFramesRequest
) -> list[emotion_pb2.StreamFramesResponse]:
    return [answer async for answer in stub.emotion.StreamFrames(iter(requests), timeout=30)]


async def test_a_face_keeps_its_number_and_its_prediction_is_steady(server: LocalServer) -> None:
    labels = [3] * 10 + [4] + [3] * 10 + [5] * 10
    answers = await _answers(server, _config(), *_frames(labels))
    faces = [answer.analysis.faces[0] for answer in answers]
    assert {face.track_id for face in faces} == {1}
    assert [face.raw.label_index for face in faces] == labels
    steady = [face.prediction.label_index for face in faces]
    assert steady[:21] == [3] * 21
    assert steady[-1] == 5
    reported = [(event.event, event.track_id, answer.sequence_id) for answer in answers for event in answer.events]
    assert reported[0] == (APPEARED, 1, 0)
    assert [each[0] for each in reported] == [APPEARED, CHANGED]
    changed = next(event for answer in answers for event in answer.events if event.event == CHANGED)
    assert changed.prediction.label_index == 5
    assert changed.time_s == pytest.approx(changed.duration_s)
    assert [answer.time_s for answer in answers] == [pytest.approx(number / 30) for number in range(31)]
    assert all(answer.age_ms > 0 for answer in answers)


async def test_a_face_in_a_photograph_is_found_between_full_searches(server: LocalServer) -> None:
    frames = [
        emotion_pb2.StreamFramesRequest(
            frame=emotion_pb2.Frame(sequence_id=number, image=ASTRONAUT.read_bytes(), time_s=number / 30)
        )
        for number in range(12)
    ]
    answers = await _answers(server, _config(detection=face_pb2.DetectionOptions()), *frames)
    shown = [[face.track_id for face in answer.analysis.faces] for answer in answers]
    assert shown[2:] == [shown[2]] * 10
    assert len(shown[2]) >= 1
    boxes = np.array(
        [[face.box.left, face.box.top, face.box.width] for a in answers[2:] for face in a.analysis.faces]
    )
    assert np.ptp(boxes, axis=0).max() < 30


async def test_without_tracking_there_are_no_numbers_and_no_raw_predictions(server: LocalServer) -> None:
    answers = await _answers(server, _config(tracking=None), *_frames([3, 4]))
    faces = [answer.analysis.faces[0] for answer in answers]
    assert [face.prediction.label_index for face in faces] == [3, 4]
    assert not any(face.track_id or face.HasField("raw") for face in faces)
    assert not any(answer.events for answer in answers)


async def test_events_only_says_that_nothing_changed(server: LocalServer) -> None:
    answers = await _answers(server, _config(events_only=True), *_frames([3] * 5))
    assert [answer.WhichOneof("outcome") for answer in answers] == ["analysis"] + ["unchanged"] * 4


async def test_a_resumed_stream_goes_on_with_its_numbers_and_says_that_tracks_began_again(
    server: LocalServer,
) -> None:
    answers = await _answers(server, _config(resumed_after_sequence_id=41), *_frames([3, 3], first=42))
    assert [(answer.sequence_id, answer.tracks_restarted) for answer in answers] == [(42, True), (43, False)]


async def test_ages_and_dropped_frames_are_counted(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    chosen: dict[str, Any] = {"max_running_frames": 1, "metrics_listen": "127.0.0.1:0"}
    async with local_server(tmp_path, FakeLoader(batch_s=0.05), **chosen) as server:
        config = _config(overload_policy=emotion_pb2.OVERLOAD_POLICY_MAX_AGE, max_age_ms=1, tracking=None)
        answers = await _answers(server, config, *_frames([3] * 10))
        kinds = [answer.WhichOneof("outcome") for answer in answers]
        counted = {
            reason: await metric(server, "stream_frames_dropped_total", reason=reason)
            for reason in ("newer", "too_old")
        }
        aged = {
            outcome: await metric(server, "stream_frame_age_seconds_count", outcome=outcome)
            for outcome in ("result", "dropped")
        }
    dropped = [answer.dropped.newer_sequence_id for answer in answers if answer.HasField("dropped")]
    assert counted == {"newer": sum(map(bool, dropped)), "too_old": dropped.count(0)}
    assert aged == {"result": kinds.count("analysis"), "dropped": len(dropped)}
    assert dropped


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tracking": emotion_pb2.TrackingOptions(enabled=True, max_lost_s=61)}, "config.tracking.max_lost_s"),
        (
            {"tracking": emotion_pb2.TrackingOptions(enabled=True, smoothing_half_life_s=float("nan"))},
            "config.tracking.smoothing_half_life_s",
        ),
        (
            {"tracking": emotion_pb2.TrackingOptions(enabled=True, full_search_interval_s=-1)},
            "config.tracking.full_search_interval_s",
        ),
        ({"max_age_ms": 60_001}, "config.max_age_ms"),
        ({"overload_policy": emotion_pb2.OVERLOAD_POLICY_MAX_AGE}, "config.max_age_ms"),
        ({"tracking": None, "events_only": True}, "config.events_only"),
        ({"resumed_after_sequence_id": -7}, "config.resumed_after_sequence_id"),
    ],
)
async def test_a_bad_option_is_rejected_with_its_field(server: LocalServer, fields: dict, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _answers(server, _config(**fields))
    rejection = rejection_of(caught.value)
    assert (rejection.code, rejection.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_every_process_tracks_and_its_ages_are_counted(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with (
        worker_server(tmp_path, FakeLoader(), metrics_listen="127.0.0.1:0") as server,
        callers(server) as stubs,
    ):
        for each in stubs:
            answers = await _answers(each, _config(), *_frames([3, 3, 3]))
            assert [answer.analysis.faces[0].track_id for answer in answers] == [1, 1, 1]

        async def all_are_counted() -> bool:
            return await metric(server, "stream_frame_age_seconds_count", outcome="result") == 3 * len(stubs)

        await eventually(all_are_counted)


async def test_a_detection_tier_tracks_with_the_scores_of_the_model_tier(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path) as tier, detection_tier(tier.address) as server:
        answers = await _answers(server, _config(), *_frames([3, 3, 5]))
    faces = [answer.analysis.faces[0] for answer in answers]
    assert [(face.track_id, face.raw.label_index, face.prediction.label_index) for face in faces] == [
        (1, 3, 3),
        (1, 3, 3),
        (1, 5, 3),
    ]
