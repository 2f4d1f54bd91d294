"""Tests a detection tier before a model tier with the whole service. Real servers and gRPC, fake models."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import cv2
import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.fake import FakeLoader, FakeServable, fake_scores
from support.compat import ask, crops, infer_request, labels_of
from support.fake_models import GOLDEN_FACES, publish_fake
from support.loaders import KeptLoader
from support.local_server import (
    NOT_SERVING,
    SERVING,
    LocalServer,
    Rejection,
    classes_of,
    eventually,
    local_server,
    packed,
    rejection_of,
)
from support.model_factory import LABELS
from support.pictures import ASTRONAUT
from support.tiers import detection_tier
from support.worker_server import metric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription, ServableId

METRICS = {"metrics_listen": "127.0.0.1:0"}
TIMEOUT_S = 30


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


@pytest.fixture
async def tier(models: Path) -> AsyncIterator[LocalServer]:
    """A model tier of one server."""
    async with local_server(models, **METRICS) as server:
        yield server


def _faces(*classes: int, **more: Any) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes), **more)


def _spec(**spec: Any) -> dict[str, servable_pb2.ModelSpec]:
    return {"model": servable_pb2.ModelSpec(**spec)}


async def _rejected(answer: Awaitable[object]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return rejection_of(caught.value)


async def test_the_scores_are_those_of_the_model_tier_to_the_bit(tier: LocalServer) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 48, 48, 1), np.uint8)
    request = emotion_pb2.ClassifyFacesRequest(
        packed=face_pb2.PackedFaces(pixels=noise.tobytes(), face_count=len(noise))
    )
    async with detection_tier(tier.address) as server:
        direct, forwarded = await asyncio.gather(*(each.emotion.ClassifyFaces(request) for each in (tier, server)))
    assert list(forwarded.results) == list(direct.results)
    assert (forwarded.labels, forwarded.servable) == (direct.labels, direct.servable)


async def test_faces_are_found_here_and_scored_there(tier: LocalServer) -> None:
    request = emotion_pb2.AnalyzeImagesRequest(
        images=[ASTRONAUT.read_bytes(), b"no picture", ASTRONAUT.read_bytes()]
    )
    async with detection_tier(tier.address) as server:
        forwarded = await server.emotion.AnalyzeImages(request, timeout=TIMEOUT_S)
        direct = await tier.emotion.AnalyzeImages(request, timeout=TIMEOUT_S)
    assert [result.WhichOneof("outcome") for result in forwarded.results] == ["analysis", "failure", "analysis"]
    assert list(forwarded.results) == list(direct.results)
    assert (forwarded.labels, forwarded.servable) == (direct.labels, direct.servable)


async def test_a_picture_without_a_face_has_the_classes_of_the_model_all_the_same(tier: LocalServer) -> None:
    blank = np.zeros((64, 64), np.uint8)
    async with detection_tier(tier.address) as server:
        image = cv2.imencode(".png", blank)[1].tobytes()
        answer = await server.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=[image]))
    assert (tuple(answer.labels), answer.servable.version) == (LABELS, 1)


async def test_streams_are_answered_in_order(tier: LocalServer) -> None:
    async with detection_tier(tier.address) as server:
        crop_stream = server.emotion.ClassifyStream(timeout=TIMEOUT_S)
        for number in range(20):
            await crop_stream.write(
                emotion_pb2.ClassifyStreamRequest(sequence_id=number, faces=packed(number % 7))
            )
        await crop_stream.done_writing()
        answers = [answer async for answer in crop_stream]
        assert [answer.predictions[0].label_index for answer in answers] == [number % 7 for number in range(20)]
        frame_stream = server.emotion.StreamFrames(timeout=TIMEOUT_S)
        config = emotion_pb2.FrameStreamConfig(overload_policy=emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME)
        await frame_stream.write(emotion_pb2.StreamFramesRequest(config=config))
        for number in range(3):
            frame = emotion_pb2.Frame(sequence_id=number, image=ASTRONAUT.read_bytes())
            await frame_stream.write(emotion_pb2.StreamFramesRequest(frame=frame))
        await frame_stream.done_writing()
        frames = [answer async for answer in frame_stream]
    assert [len(answer.analysis.faces) > 0 for answer in frames] == [True] * 3


async def test_http_and_the_open_inference_protocol_are_answered_too(tier: LocalServer) -> None:
    async with detection_tier(tier.address, http_listen="127.0.0.1:0") as server:
        assert labels_of(await ask(server.channel, "ModelInfer", infer_request(crops(3, 5)))) == [
            LABELS[3],
            LABELS[5],
        ]
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{server.http_url}/v1/analyze", data=ASTRONAUT.read_bytes()) as answer:
                assert answer.status == 200
                found = json.loads(await answer.text())
            async with session.get(f"{server.http_url}/readyz") as answer:
                assert answer.status == 200
    assert found["model"] == {"name": "fer-nano", "version": 1}


async def test_faces_of_many_callers_travel_in_one_batch(models: Path) -> None:
    loader = KeptLoader()
    async with (
        local_server(models, loader, bucket_sizes=(1, 16), **METRICS) as tier,
        detection_tier(tier.address, hold_until_queued=10) as server,
    ):
        calls = [server.emotion.ClassifyFaces(_faces(row % 7), timeout=TIMEOUT_S) for row in range(10)]
        assert [classes_of(answer) for answer in await asyncio.gather(*calls)] == [[row % 7] for row in range(10)]
        assert await metric(tier, "requests_total", method="ClassifyFaces", code="OK") == 1
        assert loader.servable.batch_sizes[-1] == 16


async def test_batches_mix_neither_priorities_nor_what_was_asked_for(models: Path) -> None:
    publish_fake(models, version=2)
    chosen: dict[str, Any] = {"versions_per_model": 2, "alias": ("fer-nano:old=1",), **METRICS}
    async with local_server(models, **chosen) as tier, detection_tier(tier.address) as server:
        kinds: list[dict[str, Any]] = [
            {},
            {"priority": emotion_pb2.PRIORITY_BULK},
            _spec(version=1),
            _spec(version_label="old"),
            _spec(name="fer-nano"),
        ]
        calls = [server.emotion.ClassifyFaces(_faces(3, **kind), timeout=TIMEOUT_S) for kind in kinds]
        versions = [answer.servable.version for answer in await asyncio.gather(*calls)]
        assert versions == [2, 2, 1, 1, 2]
        # The first and the last ask for the same, in other words.
        assert await metric(tier, "requests_total", method="ClassifyFaces", code="OK") in {4, 5}


async def test_without_its_tier_a_server_says_so_and_it_comes_back_with_it(models: Path) -> None:
    async with local_server(models) as tier:
        address = tier.address
        async with detection_tier(address, http_listen="127.0.0.1:0") as server:
            await tier.running.drain()
            await server.wait_for(NOT_SERVING)
            for call in (
                server.emotion.ClassifyFaces(_faces(3), timeout=TIMEOUT_S),
                server.emotion.AnalyzeImages(
                    emotion_pb2.AnalyzeImagesRequest(images=[ASTRONAUT.read_bytes()]), timeout=TIMEOUT_S
                ),
            ):
                rejection = await _rejected(call)
                assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
                assert "model tier" in rejection.message
                assert rejection.retry_delay_ms == 1000
            async with aiohttp.ClientSession() as session, session.get(f"{server.http_url}/readyz") as probe:
                assert (probe.status, (await probe.json())["reason"]) == (503, "UPSTREAM_UNAVAILABLE")
            async with local_server(models, listen=address):
                await server.wait_for(SERVING)
                assert classes_of(await server.emotion.ClassifyFaces(_faces(3))) == [3]


async def test_a_server_starts_before_its_tier(models: Path, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    async with detection_tier(address, ready=False) as server:
        assert await server.state() == NOT_SERVING
        rejection = await _rejected(server.emotion.ClassifyFaces(_faces(3)))
        assert rejection.reason == "UPSTREAM_UNAVAILABLE"
        rejection = await _rejected(server.models.GetModel(model_pb2.GetModelRequest()))
        assert rejection.reason == "UPSTREAM_UNAVAILABLE"
        assert not (await server.models.ListModels(model_pb2.ListModelsRequest())).models
        async with local_server(models, listen=address):
            await server.wait_for(SERVING)
            assert classes_of(await server.emotion.ClassifyFaces(_faces(3))) == [3]


async def test_a_deadline_is_passed_on(models: Path) -> None:
    async with (
        local_server(models, hold_until_queued=2, **METRICS) as tier,
        detection_tier(tier.address) as server,
    ):
        rejection = await _rejected(server.emotion.ClassifyFaces(_faces(3), timeout=0.3))
        assert rejection.code is grpc.StatusCode.DEADLINE_EXCEEDED

        async def is_given_up() -> bool:
            return await metric(tier, "requests_in_progress", method="ClassifyFaces") == 0

        await eventually(is_given_up)
        assert await metric(tier, "queue_depth_faces", model="fer-nano", version="1") == 0


async def test_a_full_tier_is_passed_through_with_its_own_words(models: Path) -> None:
    room = {"max_queue_faces": 8, "max_faces_per_request": 8, "hold_until_queued": 8}
    async with local_server(models, **room, **METRICS) as tier, detection_tier(tier.address) as server:
        taken = asyncio.ensure_future(tier.emotion.ClassifyFaces(_faces(3, 3, 3, 3, 3)))

        async def waits() -> bool:
            return await metric(tier, "queue_depth_faces", model="fer-nano", version="1") == 5

        await eventually(waits)
        rejection = await _rejected(server.emotion.ClassifyFaces(_faces(1, 1, 1, 1, 1), timeout=TIMEOUT_S))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert rejection.metadata == {
            "queued": "5",
            "limit": "8",
            "setting": "max_queue_faces",
            "retry_safe": "true",
        }
        assert rejection.retry_delay_ms is not None
        # Not tried again by itself: that would multiply the load.
        assert await metric(tier, "requests_total", method="ClassifyFaces", code="RESOURCE_EXHAUSTED") == 1
        assert classes_of(await server.emotion.ClassifyFaces(_faces(6, 6, 6))) == [6, 6, 6]
        await taken


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"version": 9}, "VERSION_NOT_FOUND"),
        ({"name": "nobody"}, "MODEL_NOT_FOUND"),
        ({"version_label": "canary"}, "ALIAS_NOT_FOUND"),
    ],
)
async def test_what_the_tier_does_not_have_is_not_found(
    tier: LocalServer, spec: dict[str, Any], reason: str
) -> None:
    async with detection_tier(tier.address) as server:
        rejection = await _rejected(server.emotion.ClassifyFaces(_faces(3, **_spec(**spec))))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert rejection == await _rejected(tier.emotion.ClassifyFaces(_faces(3, **_spec(**spec))))


async def test_a_batch_above_the_limit_of_the_tier_is_rejected_with_the_limit(models: Path) -> None:
    async with local_server(models, max_faces_per_request=4) as tier, detection_tier(tier.address) as server:
        rejection = await _rejected(server.emotion.ClassifyFaces(_faces(1, 2, 3, 4, 5)))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_FACES")
        assert rejection.metadata["limit"] == "4"
    async with (
        local_server(models, max_faces_per_request=4) as tier,
        detection_tier(tier.address, upstream_batch_faces=4) as server,
    ):
        assert classes_of(await server.emotion.ClassifyFaces(_faces(1, 2, 3, 4, 5))) == [1, 2, 3, 4, 5]


async def test_a_new_version_is_taken_up_and_reported(models: Path) -> None:
    async with local_server(models) as tier, detection_tier(tier.address, **METRICS) as server:
        assert (await server.emotion.ClassifyFaces(_faces(3))).servable.version == 1
        publish_fake(models, version=2)

        async def is_reported() -> bool:
            answer = await server.emotion.ClassifyFaces(_faces(3))
            reported = await server.models.GetModel(model_pb2.GetModelRequest())
            return answer.servable.version == 2 and reported.model.serving_version == 2

        await eventually(is_reported)
        direct = await tier.models.GetModel(model_pb2.GetModelRequest())

        async def tells_the_same() -> bool:
            return await server.models.GetModel(model_pb2.GetModelRequest()) == direct

        await eventually(tells_the_same)
        assert await metric(server, "model_serving_version", model="fer-nano") == 2
        assert await metric(server, "faces_total", model="fer-nano", version="2") >= 1


class _ShiftingLoader(FakeLoader):
    """Version N finds the class that is N further on."""

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        made = super().load(servable_id, directory, description)
        made.predict = lambda crops: np.roll(fake_scores(crops, 7), servable_id.version, axis=1)  # type: ignore[method-assign]
        return made


async def test_one_caller_meets_one_version_though_the_tier_tries_two(tmp_path: Path) -> None:
    """A canary gets half of the batches; a request of many of them meets it whole or not at all."""
    for version in (1, 2):
        golden = np.roll(fake_scores(GOLDEN_FACES, 7), version, axis=1)
        publish_fake(tmp_path / str(version), version=version, golden=golden)
    models = tmp_path / "1"
    chosen: dict[str, Any] = {"canary_share": 0.5, "versions_per_model": 2, "canary_auto": False}
    async with local_server(models, _ShiftingLoader(), **chosen) as tier:
        (tmp_path / "2/fer-nano/2").rename(models / "fer-nano/2")

        async def has_canary() -> bool:
            reported = await tier.models.GetModel(model_pb2.GetModelRequest())
            return reported.model.canary.version == 2

        await eventually(has_canary)
        async with detection_tier(tier.address, upstream_batch_faces=2) as server:
            versions = set()
            for _ in range(12):  # five batches each, and every other one is the canary's
                answer = await server.emotion.ClassifyFaces(_faces(*range(7), 0, 1, 2), timeout=TIMEOUT_S)
                version = answer.servable.version
                assert classes_of(answer) == [(row + version) % 7 for row in (*range(7), 0, 1, 2)]
                versions.add(version)
            assert versions == {1, 2}
            pictures = emotion_pb2.AnalyzeImagesRequest(
                images=[ASTRONAUT.read_bytes()] * 3,
                detection=face_pb2.DetectionOptions(face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE),
            )
            for _ in range(6):
                answer = await server.emotion.AnalyzeImages(pictures, timeout=TIMEOUT_S)
                assert len({str(result.analysis.faces) for result in answer.results}) == 1


async def test_control_calls_belong_to_the_tier(tier: LocalServer) -> None:
    async with detection_tier(tier.address) as server:
        rejection = await _rejected(server.models.RollBack(model_pb2.RollBackRequest(name="fer-nano")))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CONTROL_DISABLED")


async def test_a_tier_before_a_tier_works(tier: LocalServer) -> None:
    async with detection_tier(tier.address) as middle, detection_tier(middle.address) as server:
        assert classes_of(await server.emotion.ClassifyFaces(_faces(3, 5))) == [3, 5]


async def test_what_was_taken_is_answered_before_a_server_ends(models: Path) -> None:
    async with (
        local_server(models, hold_until_queued=2, **METRICS) as tier,
        detection_tier(tier.address) as server,
    ):
        first = asyncio.ensure_future(server.emotion.ClassifyFaces(_faces(3), timeout=TIMEOUT_S))

        async def waits() -> bool:
            return await metric(tier, "queue_depth_faces", model="fer-nano", version="1") == 1

        await eventually(waits)
        drained = server.running.drain()
        await server.wait_for(NOT_SERVING)
        assert classes_of(await tier.emotion.ClassifyFaces(_faces(5))) == [5]
        assert classes_of(await first) == [3]
        assert await drained
