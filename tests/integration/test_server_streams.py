"""Tests both streams over a real socket: order, failures within, flow control, cancellation and draining."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2, servable_pb2
from ferserve_server.backends.fake import FakeLoader
from support.fake_models import publish_fake
from support.local_server import (
    DEADLINE_S,
    GRPC_SERVERS,
    LocalServer,
    classes_of,
    eventually,
    local_server,
    packed,
    rejection_of,
    taken_in,
)
from support.model_factory import LABELS
from support.pictures import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.local_server import Rejection

WHOLE = face_pb2.DetectionOptions(face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE)


@pytest.fixture(params=GRPC_SERVERS)
def grpc_server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(tmp_path: Path, grpc_server: str) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path)
    async with asyncio.timeout(60), local_server(tmp_path, grpc_server=grpc_server) as running:
        yield running


def _config(
    policy: int = emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME, **rest: object
) -> emotion_pb2.StreamFramesRequest:
    return emotion_pb2.StreamFramesRequest(
        config=emotion_pb2.FrameStreamConfig(overload_policy=policy, detection=WHOLE, **rest)
    )


def _frame(sequence_id: int, image: bytes | None = None) -> emotion_pb2.StreamFramesRequest:
    """A frame whose class is its number modulo 7, if no other picture is given."""
    return emotion_pb2.StreamFramesRequest(
        frame=emotion_pb2.Frame(sequence_id=sequence_id, image=_face(sequence_id) if image is None else image)
    )


def _face(number: int) -> bytes:
    face = np.zeros((48, 48), np.uint8)
    face[0, 0] = number % 7
    return encode(face, "PNG")


def _crops(sequence_id: int, *classes: int, **rest: object) -> emotion_pb2.ClassifyStreamRequest:
    return emotion_pb2.ClassifyStreamRequest(sequence_id=sequence_id, faces=packed(*classes), **rest)


def _reported(response: emotion_pb2.StreamFramesResponse) -> tuple[int, object]:
    match response.WhichOneof("outcome"):
        case "analysis":
            return response.sequence_id, response.analysis.faces[0].prediction.label_index
        case "failure":
            return response.sequence_id, response.failure.reason
        case _:
            return response.sequence_id, "dropped"


async def _rejection(call) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _read_out(call)
    return rejection_of(caught.value)


async def _read_out(call) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_frames_are_answered_in_order_each_once(server: LocalServer) -> None:
    numbers = [0, 1, 2, 5, 8, 90, 91]
    call = server.emotion.StreamFrames(iter([_config(), *map(_frame, numbers)]))
    answers = [answer async for answer in call]
    assert [_reported(answer) for answer in answers] == [(number, number % 7) for number in numbers]
    assert tuple(answers[0].labels) == LABELS
    assert all(not answer.labels for answer in answers[1:])
    assert all(answer.servable.version == 1 for answer in answers)
    assert all(answer.HasField("timing") for answer in answers)


async def test_a_frame_that_cannot_be_read_fails_in_its_place_and_the_stream_goes_on(server: LocalServer) -> None:
    frames = [_frame(0), _frame(1, b"text"), _frame(2, b""), _frame(3)]
    call = server.emotion.StreamFrames(iter([_config(), *frames]))
    assert [_reported(answer) async for answer in call] == [
        (0, 0),
        (1, "IMAGE_FORMAT_UNSUPPORTED"),
        (2, "IMAGE_FORMAT_UNSUPPORTED"),
        (3, 3),
    ]


async def test_under_latest_every_frame_is_answered_and_the_last_is_analysed(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, FakeLoader(batch_s=0.02), max_running_frames=1) as server:
        frames = [_frame(number) for number in range(40)]
        call = server.emotion.StreamFrames(iter([_config(emotion_pb2.OVERLOAD_POLICY_LATEST), *frames]))
        answers = [answer async for answer in call]
    assert [answer.sequence_id for answer in answers] == list(range(40))
    dropped = [answer for answer in answers if answer.WhichOneof("outcome") == "dropped"]
    assert dropped
    assert all(answer.dropped.newer_sequence_id == answer.sequence_id + 1 for answer in dropped)
    assert _reported(answers[-1]) == (39, 39 % 7)


async def test_a_model_that_is_not_there_fails_each_frame_and_not_the_stream(server: LocalServer) -> None:
    config = _config(model=servable_pb2.ModelSpec(name="other"))
    answers = [_reported(each) async for each in server.emotion.StreamFrames(iter([config, _frame(0), _frame(1)]))]
    assert answers == [(0, "MODEL_NOT_FOUND"), (1, "MODEL_NOT_FOUND")]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "STREAM_CONFIG_REQUIRED"),
        ([_frame(0)], "STREAM_CONFIG_REQUIRED"),
        ([emotion_pb2.StreamFramesRequest()], "STREAM_CONFIG_REQUIRED"),
        ([_config(), _frame(0), _config()], "STREAM_CONFIG_REPEATED"),
        ([_config(), _frame(3), _frame(3)], "SEQUENCE_NOT_RISING"),
        ([_config(), _frame(-1)], "SEQUENCE_NOT_RISING"),
        ([_config(9)], "OPTION_OUT_OF_RANGE"),
    ],
)
async def test_a_stream_that_breaks_the_rules_ends_with_the_reason(
    server: LocalServer, messages: list, reason: str
) -> None:
    rejection = await _rejection(server.emotion.StreamFrames(iter(messages)))
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


async def test_crop_requests_are_answered_in_order(server: LocalServer) -> None:
    call = server.emotion.ClassifyStream(iter([_crops(number, number % 7, 3) for number in range(200)]))
    answers = [answer async for answer in call]
    assert [
        (answer.sequence_id, [prediction.label_index for prediction in answer.predictions]) for answer in answers
    ] == [(number, [number % 7, 3]) for number in range(200)]
    assert tuple(answers[0].labels) == LABELS
    assert all(not answer.labels for answer in answers[1:])


async def test_a_bad_crop_request_fails_in_its_place_and_the_stream_goes_on(server: LocalServer) -> None:
    requests = [
        _crops(0, 1),
        emotion_pb2.ClassifyStreamRequest(sequence_id=1),
        _crops(2, 1, model=servable_pb2.ModelSpec(name="other")),
        _crops(3, 1, priority=9),
        _crops(4, 2),
    ]
    answers = [answer async for answer in server.emotion.ClassifyStream(iter(requests))]
    assert [answer.sequence_id for answer in answers] == [0, 1, 2, 3, 4]
    assert [answer.failure.reason for answer in answers] == [
        "",
        "FACES_REQUIRED",
        "MODEL_NOT_FOUND",
        "OPTION_OUT_OF_RANGE",
        "",
    ]
    assert all(not answer.predictions and not answer.HasField("servable") for answer in answers[1:4])


async def test_no_more_is_read_of_a_stream_than_may_be_unanswered(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    everything = 1000
    settings = {
        "max_unanswered_messages": 2,
        "max_queue_faces": everything,
        "max_faces_per_request": everything,
        "hold_until_queued": everything,
    }
    async with local_server(tmp_path, grpc_server=grpc_server, **settings) as server:

        async def queued() -> str:
            """Tells how many faces wait, by asking for more than there is room for."""
            probe = emotion_pb2.ClassifyFacesRequest(packed=packed(*[0] * (everything - 19)))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.emotion.ClassifyFaces(probe, timeout=1)
            return rejection_of(caught.value).metadata.get("queued", "0")

        async def two_are_read() -> bool:
            return await queued() == "40"

        call = server.emotion.ClassifyStream()
        for number in range(5):
            await call.write(_crops(number, *[1] * 20))
        await eventually(two_are_read)
        assert await queued() == "40"
        rest = emotion_pb2.ClassifyFacesRequest(packed=packed(*[2] * (everything - 40)))
        assert classes_of(await server.emotion.ClassifyFaces(rest)) == [2] * (everything - 40)
        await call.done_writing()
        assert [answer.sequence_id async for answer in call] == [0, 1, 2, 3, 4]


async def test_a_client_that_leaves_in_the_midst_of_a_stream_harms_nobody(
    tmp_path: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    settings = {"max_queue_faces": 8, "max_faces_per_request": 8, "hold_until_queued": 8}
    async with local_server(tmp_path, grpc_server=grpc_server, **settings) as server:
        for _ in range(3):
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = emotion_service_pb2_grpc.EmotionServiceStub(channel)
                crops, frames = stub.ClassifyStream(), stub.StreamFrames()
                await crops.write(_crops(0, 1, 1, 1))
                await frames.write(_config())
                await frames.write(_frame(0))

        # All there is room for: while a face of theirs waits, it is rejected.
        everything = emotion_pb2.ClassifyFacesRequest(packed=packed(*range(7), 0))
        await eventually(lambda: taken_in(server, everything))


async def test_a_drain_answers_what_a_stream_sent_and_ends_it_with_the_last_number(
    tmp_path: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    async with asyncio.timeout(DEADLINE_S), local_server(tmp_path, grpc_server=grpc_server) as server:
        frames, crops, silent = (
            server.emotion.StreamFrames(),
            server.emotion.ClassifyStream(),
            server.emotion.StreamFrames(),
        )
        await silent.write(_config())
        await frames.write(_config())
        for number in (0, 4):
            await frames.write(_frame(number))
            await crops.write(_crops(number, 1))
        first = await frames.read(), await crops.read()
        second = await frames.read(), await crops.read()
        assert [each.sequence_id for each in (*first, *second)] == [0, 0, 4, 4]
        drained = server.running.drain()
        for call, last in [(frames, "4"), (crops, "4"), (silent, "-1")]:
            rejection = await _rejection(call)
            assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert rejection.metadata["last_sequence_id"] == last
        assert await drained


async def test_a_stream_that_never_sent_its_config_does_not_hold_a_drain_up(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with asyncio.timeout(DEADLINE_S), local_server(tmp_path, drain_timeout_s=60) as server:
        call = server.emotion.StreamFrames(metadata=[("x", "y")])
        answered = server.emotion.StreamFrames(iter([_config(), _frame(0)]))
        assert [_reported(answer) async for answer in answered] == [(0, 0)]  # so the other was taken too
        drained = server.running.drain()
        rejection = await _rejection(call)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert await drained


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (_config(policy=9), "config.overload_policy"),
        (_config(model=servable_pb2.ModelSpec(name=".hidden")), "config.model.name"),
    ],
)
async def test_a_bad_config_is_rejected_with_the_field_at_fault(server: LocalServer, config, field) -> None:
    rejection = await _rejection(server.emotion.StreamFrames(iter([config])))
    assert rejection.code is grpc.StatusCode.INVALID_ARGUMENT
    assert rejection.fields == [field]


async def test_frames_larger_than_the_window_of_a_stream_are_answered_one_after_the_other(
    server: LocalServer,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900), np.uint8)
    image = encode(noise, "PNG")
    assert len(image) > 3 * 2**18

    async def requests() -> AsyncIterator[emotion_pb2.StreamFramesRequest]:
        yield _config()
        for number in range(5):
            yield _frame(number, image)

    answers = [answer async for answer in server.emotion.StreamFrames(requests(), timeout=DEADLINE_S)]
    assert [(answer.sequence_id, answer.WhichOneof("outcome")) for answer in answers] == [
        (number, "analysis") for number in range(5)
    ]
