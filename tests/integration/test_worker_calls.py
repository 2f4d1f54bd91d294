"""Tests that every process answers a call as a single process would. Real processes, real gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from support.compat import ask, crops, infer_request, oip
from support.fake_models import publish_fake
from support.loaders import KeptLoader
from support.local_server import LocalServer, Stubs, classes_of, eventually, local_server, packed, rejection_of
from support.pictures import ASTRONAUT, encode, noise
from support.worker_server import CALLER_COUNT, callers, metric, scrape, worker_server, workers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS: dict[str, Any] = {
    "versions_per_model": 2,
    "control_on_main": True,
    "repository_poll_s": 0,
    "max_faces_per_request": 64,
    "max_queue_faces": 64,
}


class Service:
    """A server with worker processes, callers on all of them, and the engine's doings."""

    def __init__(self, server: LocalServer, stubs: list[Stubs], loader: KeptLoader) -> None:
        self.server = server
        self.stubs = stubs
        self.loader = loader


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    repository = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        publish_fake(repository, version=version)
    loader = KeptLoader()
    chosen = SETTINGS | {"metrics_listen": "127.0.0.1:0"}
    async with worker_server(repository, loader, **chosen) as server, callers(server) as stubs:
        yield Service(server, stubs, loader)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalServer]:
    repository = tmp_path_factory.mktemp("same-models")
    for version in (1, 2):
        publish_fake(repository, version=version)
    async with local_server(repository, **SETTINGS) as server:
        yield server


async def _reported(call) -> object:
    """What a call comes to, without its times."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return rejection_of(error)
    answer.ClearField("timing")
    return answer


async def _all_of(call) -> list[object]:
    """What a stream comes to, without its times."""
    answers: list[object] = []
    try:
        async for answer in call:
            if isinstance(answer, emotion_pb2.StreamFramesResponse):
                for field in ("timing", "time_s", "age_ms"):
                    answer.ClearField(field)
            answers.append(answer)
    except grpc.aio.AioRpcError as error:
        answers.append(rejection_of(error))
    return answers


def _classify(**more: Any) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(**({"packed": packed(1, 2, 6)} | more))


PICTURE = ASTRONAUT.read_bytes()
LARGE = np.random.default_rng(1).integers(0, 256, (2, 96, 80), np.uint8)
ENCODED = [encode(noise(48, 48, seed)) for seed in range(3)]
CLASSIFICATIONS = {
    "faces": _classify(),
    "as many as there may be": _classify(packed=packed(*(row % 7 for row in range(64)))),
    "large ones": _classify(
        packed=face_pb2.PackedFaces(pixels=LARGE.tobytes(), face_count=2, height=96, width=80)
    ),
    "encoded ones, one broken": emotion_pb2.ClassifyFacesRequest(
        encoded=face_pb2.EncodedFaces(images=[*ENCODED, b"\xff\xd8\xff broken"])
    ),
    "for a version": _classify(model=servable_pb2.ModelSpec(name="fer-nano", version=1)),
    "urgently not": _classify(priority=emotion_pb2.PRIORITY_BULK),
    "no model of that name": _classify(model=servable_pb2.ModelSpec(name="none")),
    "no version of that number": _classify(model=servable_pb2.ModelSpec(version=9)),
    "no such alias": _classify(model=servable_pb2.ModelSpec(version_label="none")),
    "too many": _classify(packed=packed(*(0 for _ in range(65)))),
    "none": emotion_pb2.ClassifyFacesRequest(),
}


@pytest.mark.parametrize("what", CLASSIFICATIONS)
async def test_faces_are_answered_as_by_one_process(service: Service, one_process: LocalServer, what: str) -> None:
    def call(stubs: Stubs) -> Any:
        return stubs.emotion.ClassifyFaces(CLASSIFICATIONS[what], timeout=60)

    await _compare(service, one_process, call)


async def test_calls_that_come_together_get_each_their_own_answer(service: Service) -> None:
    counts = [number % 3 + 1 for number in range(30)]  # together less than `max_queue_faces`
    sent = [[(number + row) % 7 for row in range(count)] for number, count in enumerate(counts)]
    calls = [
        service.stubs[number % 4].emotion.ClassifyFaces(_classify(packed=packed(*classes)), timeout=60)
        for number, classes in enumerate(sent)
    ]
    assert [classes_of(answer) for answer in await asyncio.gather(*calls)] == sent


@pytest.mark.parametrize("count", [1, 3])
async def test_pictures_are_answered_as_by_one_process(
    service: Service, one_process: LocalServer, count: int
) -> None:
    images = [PICTURE, b"no picture", encode(noise(90, 70))][:count]

    def call(stubs: Stubs) -> Any:
        return stubs.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=images), timeout=60)

    await _compare(service, one_process, call)


async def _compare(service: Service, one_process: LocalServer, call: Callable[[Stubs], Any]) -> None:
    expected = await _reported(call(one_process))
    for stubs in service.stubs[:4]:
        assert await _reported(call(stubs)) == expected


async def test_streams_are_answered_as_by_one_process(service: Service, one_process: LocalServer) -> None:
    def crop_stream(stubs: Stubs) -> Any:
        requests = [
            emotion_pb2.ClassifyStreamRequest(sequence_id=number, faces=packed(number % 7, 3))
            for number in range(20)
        ]
        model = servable_pb2.ModelSpec(name="none")
        requests.append(emotion_pb2.ClassifyStreamRequest(sequence_id=30, faces=packed(1), model=model))
        requests.append(emotion_pb2.ClassifyStreamRequest(sequence_id=30, faces=packed(1)))
        return stubs.emotion.ClassifyStream(iter(requests), timeout=60)

    def frame_stream(stubs: Stubs) -> Any:
        config = emotion_pb2.FrameStreamConfig(overload_policy=emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME)
        requests = [emotion_pb2.StreamFramesRequest(config=config)]
        for number, image in enumerate((PICTURE, b"no picture")):
            frame = emotion_pb2.Frame(sequence_id=number, image=image)
            requests.append(emotion_pb2.StreamFramesRequest(frame=frame))
        return stubs.emotion.StreamFrames(iter(requests), timeout=60)

    for call, count in ((crop_stream, 22), (frame_stream, 2)):
        expected = await _all_of(call(one_process))
        assert len(expected) == count
        for stubs in service.stubs[:2]:
            assert await _all_of(call(stubs)) == expected


async def test_models_and_health_are_the_same_everywhere(service: Service) -> None:
    listed = [await stubs.models.ListModels(model_pb2.ListModelsRequest()) for stubs in service.stubs]
    assert [version.version for version in listed[0].models[0].versions] == [2, 1]
    assert all(each == listed[0] for each in listed)
    for stubs in service.stubs:
        assert (await ask(stubs.channel, "ServerReady")).ready
        metadata = await ask(stubs.channel, "ModelMetadata", oip("ModelMetadataRequest", name="fer-nano"))
        assert list(metadata.versions) == ["1", "2"]


async def test_a_control_call_anywhere_is_active_everywhere_at_once(service: Service) -> None:
    first, *others = service.stubs
    spec = servable_pb2.ModelSpec(version_label="beta")
    for version in (1, 2):
        request = model_pb2.SetAliasRequest(name="fer-nano", alias="beta", version=version)
        changed = await first.models.SetAlias(request)
        assert changed.model.aliases["beta"] == version
        for stubs in others:
            answer = await stubs.emotion.ClassifyFaces(_classify(model=spec))
            assert answer.servable.version == version
            assert (await stubs.models.GetModel(model_pb2.GetModelRequest())).model == changed.model
    rejected = await _reported(first.models.UnloadVersion(model_pb2.UnloadVersionRequest(version=2)))
    assert (rejected.code, rejected.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_IN_USE")
    await others[-1].models.DeleteAlias(model_pb2.DeleteAliasRequest(name="fer-nano", alias="beta"))
    missing = await _reported(first.emotion.ClassifyFaces(_classify(model=spec)))
    assert missing.reason == "ALIAS_NOT_FOUND"


async def test_metrics_are_sums_over_all_processes(service: Service) -> None:
    empty = emotion_pb2.AnalyzeImagesRequest()
    picture = emotion_pb2.AnalyzeImagesRequest(images=[encode(noise(60, 60))])
    decoded = await metric(service.server, "decode_seconds_count")
    for stubs in service.stubs:
        assert (await _reported(stubs.emotion.AnalyzeImages(empty))).reason == "IMAGES_REQUIRED"
        await stubs.emotion.AnalyzeImages(picture, timeout=60)

    async def counted() -> bool:
        rejected = {"method": "AnalyzeImages", "code": "INVALID_ARGUMENT"}
        return await metric(service.server, "requests_total", **rejected) == CALLER_COUNT

    await eventually(counted)
    samples = await asyncio.to_thread(scrape, service.server)
    total = sum(
        value
        for (name, labels), value in samples.items()
        if name == "ferserve_requests_total" and ("method", "AnalyzeImages") in labels
    )
    assert samples["ferserve_request_seconds_count", frozenset({("method", "AnalyzeImages")})] == total
    assert samples["ferserve_decode_seconds_count", frozenset()] >= decoded + CALLER_COUNT
    assert samples["ferserve_requests_in_progress", frozenset({("method", "AnalyzeImages")})] == 0
    assert samples["ferserve_worker_processes", frozenset()] == 2
    assert samples["ferserve_worker_restarts_total", frozenset()] == 0


async def test_statistics_of_other_protocols_are_those_of_the_whole_service(service: Service) -> None:
    async def successes(stubs: Stubs) -> tuple[int, int]:
        request = oip("ModelStatisticsRequest", name="fer-nano", version="1")
        (stats,) = (await ask(stubs.channel, "ModelStatistics", request)).model_stats
        return stats.inference_stats.success.count, stats.inference_count

    before, faces_before = await successes(service.stubs[0])
    for stubs in service.stubs:
        await ask(
            stubs.channel, "ModelInfer", infer_request(crops(1, 2), model_name="fer-nano", model_version="1")
        )
    expected = (before + CALLER_COUNT, faces_before + 2 * CALLER_COUNT)
    for stubs in service.stubs[:4]:

        async def reported(stubs: Stubs = stubs) -> bool:
            return await successes(stubs) == expected

        await eventually(reported)


async def test_a_caller_who_leaves_makes_room_in_the_primary(service: Service) -> None:
    unblocked = asyncio.Event()
    loop = asyncio.get_running_loop()
    held = asyncio.Event()

    def hold(_: object) -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(unblocked.wait(), loop).result()

    # Such work alone never runs on the event loop, which `hold` would keep from unblocking it.
    bulk = emotion_pb2.PRIORITY_BULK
    service.loader.before_predict = hold
    try:
        running = service.stubs[0].emotion.ClassifyFaces(_classify(priority=bulk), timeout=60)
        await asyncio.wait_for(held.wait(), 30)
        pair = _classify(packed=packed(1, 1), priority=bulk)
        waiting = [stubs.emotion.ClassifyFaces(pair) for stubs in service.stubs]
        workers = workers_of(service.server)

        async def all_there() -> bool:
            return workers.face_count == 3 + 2 * CALLER_COUNT

        async def only_one() -> bool:
            return workers.face_count == 3

        await eventually(all_there)
        for call in waiting:
            call.cancel()
        await eventually(only_one)
        late = service.stubs[1].emotion.ClassifyFaces(_classify(priority=bulk), timeout=0.2)
        deadline = await _reported(late)
        assert deadline.code is grpc.StatusCode.DEADLINE_EXCEEDED
        full = _classify(packed=packed(*(0 for _ in range(64))), priority=bulk)
        taken = [stubs.emotion.ClassifyFaces(full, timeout=60) for stubs in service.stubs[:2]]
        outcomes = asyncio.gather(*map(_reported, taken))

        async def one_rejected() -> bool:
            return any(call.done() for call in taken)

        await eventually(one_rejected)
    finally:
        service.loader.before_predict = lambda _: None
        unblocked.set()
    answered, rejections = [], []
    for outcome in await outcomes:
        (answered if isinstance(outcome, emotion_pb2.ClassifyFacesResponse) else rejections).append(outcome)
    assert classes_of(answered[0]) == [0] * 64
    (rejection,) = rejections
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert rejection.retry_delay_ms is not None
    assert rejection.metadata["setting"] == "max_queue_faces"
    assert classes_of(await running) == [1, 2, 6]
