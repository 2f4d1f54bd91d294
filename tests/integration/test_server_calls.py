"""Tests each RPC over a real socket, and each of its errors."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.fake import FakeLoader
from support.engine_server import ENGINES, engine_server
from support.fake_models import publish_fake
from support.local_server import (
    DEADLINE_S,
    GRPC_SERVERS,
    LocalServer,
    Rejection,
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
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

SLOW_BATCH_S = 0.4
"""Long enough that an answer at once cannot be mistaken for one after a batch."""


@pytest.fixture(params=GRPC_SERVERS)
def grpc_server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(tmp_path: Path, grpc_server: str) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path, version=3)
    async with local_server(tmp_path, grpc_server=grpc_server) as running:
        yield running


def _request(*classes: int, **rest: object) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes), **rest)


async def _rejected(call: Awaitable[object]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rejection_of(caught.value)


async def test_packed_faces_are_classified_in_their_order(server: LocalServer) -> None:
    response = await server.emotion.ClassifyFaces(_request(5, 0, 6, 1, 1))
    assert classes_of(response) == [5, 0, 6, 1, 1]
    assert tuple(response.labels) == LABELS
    assert response.servable == servable_pb2.ServableId(name="fer-nano", version=3)
    assert sum(response.results[0].prediction.scores) == pytest.approx(1)
    assert response.timing.total_ms >= response.timing.inference_ms


async def test_packed_faces_of_any_size_are_classified(server: LocalServer) -> None:
    faces = face_pb2.PackedFaces(pixels=bytes(2 * 96 * 64), face_count=2, height=96, width=64)
    response = await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=faces))
    assert classes_of(response) == [0, 0]


async def test_an_encoded_face_that_cannot_be_read_fails_alone(server: LocalServer) -> None:
    face = np.zeros((48, 48), np.uint8)
    face[0, 0] = 4
    images = [encode(face, "PNG"), b"no picture", encode(face, "PNG")]
    request = emotion_pb2.ClassifyFacesRequest(encoded=face_pb2.EncodedFaces(images=images))
    results = (await server.emotion.ClassifyFaces(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["prediction", "failure", "prediction"]
    assert results[0].prediction.label_index == results[2].prediction.label_index == 4
    assert (results[1].failure.code, results[1].failure.reason) == (3, "IMAGE_FORMAT_UNSUPPORTED")


async def test_a_version_may_be_asked_for(server: LocalServer) -> None:
    response = await server.emotion.ClassifyFaces(
        _request(1, model=servable_pb2.ModelSpec(name="fer-nano", version=3))
    )
    assert response.servable.version == 3


async def test_interactive_and_bulk_calls_are_both_answered(server: LocalServer) -> None:
    for priority in emotion_pb2.Priority.values():
        assert classes_of(await server.emotion.ClassifyFaces(_request(2, priority=priority))) == [2]


@pytest.mark.parametrize(
    ("spec", "reason", "metadata"),
    [
        (servable_pb2.ModelSpec(name="other"), "MODEL_NOT_FOUND", {"model": "other"}),
        (servable_pb2.ModelSpec(version=9), "VERSION_NOT_FOUND", {"model": "fer-nano", "version": "9"}),
    ],
)
async def test_a_model_that_is_not_there_is_not_found(
    server: LocalServer, spec: servable_pb2.ModelSpec, reason: str, metadata: dict[str, str]
) -> None:
    picture = encode(np.zeros((9, 9), np.uint8), "PNG")
    for call in (
        server.emotion.ClassifyFaces(_request(1, model=spec)),
        server.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=[picture], model=spec)),
    ):
        rejection = await _rejected(call)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert rejection.metadata == metadata


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (emotion_pb2.ClassifyFacesRequest(), "packed.face_count", "FACES_REQUIRED"),
        (
            emotion_pb2.ClassifyFacesRequest(encoded=face_pb2.EncodedFaces()),
            "encoded.images",
            "FACES_REQUIRED",
        ),
        (
            emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=b"x", face_count=1)),
            "packed.pixels",
            "PIXELS_LENGTH_MISMATCH",
        ),
        (_request(1, priority=77), "priority", "OPTION_OUT_OF_RANGE"),
        (_request(1, model=servable_pb2.ModelSpec(name="../x")), "model.name", "MODEL_NAME_INVALID"),
        (emotion_pb2.AnalyzeImagesRequest(), "images", "IMAGES_REQUIRED"),
        (
            emotion_pb2.AnalyzeImagesRequest(
                images=[b"x"], detection=face_pb2.DetectionOptions(haar=face_pb2.HaarOptions(min_neighbors=101))
            ),
            "detection.haar.min_neighbors",
            "OPTION_OUT_OF_RANGE",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_request_names_its_field(
    server: LocalServer, request_: object, field: str, reason: str
) -> None:
    packed_call = isinstance(request_, emotion_pb2.ClassifyFacesRequest)
    method = server.emotion.ClassifyFaces if packed_call else server.emotion.AnalyzeImages
    rejection = await _rejected(method(request_))
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert rejection.fields == [field]


async def _send_raw(server: LocalServer, method: str, message: bytes) -> bytes:
    """One message of a unary call or of a stream, whatever its bytes are."""
    path = f"/ferserve.v1.EmotionService/{method}"
    if method == "ClassifyFaces":
        return bytes(await server.channel.unary_unary(path)(message))
    return bytes(await server.channel.stream_stream(path)(iter([message])).read())


@pytest.mark.parametrize("method", ["ClassifyFaces", "ClassifyStream"])
async def test_bytes_that_are_no_message_or_too_many_are_rejected_and_the_next_call_is_answered(
    tmp_path: Path, method: str, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, max_message_bytes=30_000) as server:
        for message, reason in ((b"\xff\xff", "MESSAGE_UNREADABLE"), (bytes(30_001), "MESSAGE_TOO_LARGE")):
            rejection = await _rejected(_send_raw(server, method, message))
            assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert classes_of(await server.emotion.ClassifyFaces(_request(1))) == [1]


async def test_each_limit_of_a_request_names_its_setting(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    limits = {
        "max_message_bytes": 30_000,
        "max_metadata_bytes": 1024,
        "max_faces_per_request": 4,
        "max_images_per_request": 2,
        "max_image_pixels": 100,
    }
    picture = encode(np.zeros((10, 10), np.uint8), "PNG")
    async with local_server(tmp_path, grpc_server=grpc_server, **limits) as server:
        too_many_encoded = emotion_pb2.ClassifyFacesRequest(encoded=face_pb2.EncodedFaces(images=[picture] * 5))
        calls = {
            "max_message_bytes": server.emotion.AnalyzeImages(
                emotion_pb2.AnalyzeImagesRequest(images=[bytes(30_001)])
            ),
            "max_metadata_bytes": server.emotion.ClassifyFaces(_request(1), metadata=[("x", "y" * 1024)]),
            "max_faces_per_request": server.emotion.ClassifyFaces(_request(*[0] * 5)),
            "max_images_per_request": server.emotion.AnalyzeImages(
                emotion_pb2.AnalyzeImagesRequest(images=[picture] * 3)
            ),
        }
        encoded = ("max_faces_per_request", server.emotion.ClassifyFaces(too_many_encoded))
        for setting, call in [*calls.items(), encoded]:
            rejection = await _rejected(call)
            assert rejection.code is grpc.StatusCode.INVALID_ARGUMENT, setting
            assert rejection.metadata["setting"] == setting
            assert rejection.metadata["limit"] == str(limits[setting])
            assert setting in rejection.message

        large = encode(np.zeros((10, 11), np.uint8), "PNG")
        analyzed = await server.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=[large, picture]))
        assert [result.WhichOneof("outcome") for result in analyzed.results] == ["failure", "analysis"]
        assert analyzed.results[0].failure.metadata["setting"] == "max_image_pixels"


async def test_a_message_far_beyond_the_limit_is_rejected_unread(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, max_message_bytes=30_000) as server:
        rejection = await _rejected(
            server.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=[bytes(100_000)]))
        )
        # gRPC's own server rejects it by itself.
        codes = {"native": grpc.StatusCode.INVALID_ARGUMENT, "grpcio": grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert rejection.code is codes[grpc_server]
        assert classes_of(await server.emotion.ClassifyFaces(_request(1))) == [1]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_full_queue_rejects_at_once_and_tells_when_to_come_again(
    tmp_path: Path, engine: str, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    settings = {"max_queue_faces": 8, "max_faces_per_request": 8, "hold_until_queued": 8}
    async with engine_server(tmp_path, engine, grpc_server=grpc_server, **settings) as server:
        calls = [asyncio.ensure_future(server.emotion.ClassifyFaces(_request(*[3] * 5))) for _ in range(2)]
        done, pending = await asyncio.wait(calls, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        (rejected,), (waiting,) = done, pending
        rejection = await _rejected(rejected)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert rejection.metadata == {
            "queued": "5",
            "limit": "8",
            "setting": "max_queue_faces",
            "retry_safe": "true",
        }
        assert rejection.retry_delay_ms is not None
        assert rejection.retry_delay_ms > 0
        # What was taken before is answered as soon as batches run.
        assert classes_of(await server.emotion.ClassifyFaces(_request(1, 2, 4))) == [1, 2, 4]
        assert classes_of(await waiting) == [3] * 5


async def test_a_deadline_that_cannot_be_met_is_rejected_early(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    settings = {"grpc_server": grpc_server, "bucket_sizes": (1,)}
    async with local_server(tmp_path, FakeLoader(batch_s=SLOW_BATCH_S), **settings) as server:
        await server.emotion.ClassifyFaces(_request(1))  # now it is known how long a batch takes
        running = asyncio.ensure_future(server.emotion.ClassifyFaces(_request(2, 3)))
        # Whichever of the two came first, the other is taken when this one has failed.
        first = await _rejected(server.emotion.ClassifyFaces(_request(1), timeout=SLOW_BATCH_S / 2))
        assert first.code is grpc.StatusCode.DEADLINE_EXCEEDED
        started_at = time.monotonic()
        rejection = await _rejected(server.emotion.ClassifyFaces(_request(1), timeout=SLOW_BATCH_S / 2))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_UNMEETABLE")
        assert time.monotonic() - started_at < SLOW_BATCH_S / 2
        assert classes_of(await running) == [2, 3]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_deadline_that_passes_frees_the_callers_place(
    tmp_path: Path, engine: str, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    settings = {"max_queue_faces": 4, "max_faces_per_request": 4, "hold_until_queued": 4}
    async with engine_server(tmp_path, engine, grpc_server=grpc_server, **settings) as server:
        rejection = await _rejected(server.emotion.ClassifyFaces(_request(1, 1, 1), timeout=0.2))
        assert rejection.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: taken_in(server, _request(2, 3, 4, 5)))


async def test_before_the_first_model_calls_get_a_retry_delay(tmp_path: Path, grpc_server: str) -> None:
    async with local_server(tmp_path, grpc_server=grpc_server, ready=False) as server:
        rejection = await _rejected(server.emotion.ClassifyFaces(_request(1)))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_READY")
        assert rejection.retry_delay_ms == 1000


async def test_a_model_is_described(server: LocalServer) -> None:
    model = (await server.models.GetModel(model_pb2.GetModelRequest())).model
    assert (model.name, model.default) == ("fer-nano", True)
    (version,) = model.versions
    assert (version.version, version.state) == (3, model_pb2.SERVABLE_STATE_READY)
    assert tuple(version.labels) == LABELS
    assert (version.input_height, version.input_width) == (48, 48)
    assert version.metrics["public_test_accuracy"] == 0.14
    assert list(version.bucket_sizes) == [1, 4, 16]
    assert version.precision == model_pb2.PRECISION_FLOAT32
    assert not version.HasField("failure")


async def test_a_model_that_is_not_there_cannot_be_described(server: LocalServer) -> None:
    rejection = await _rejected(server.models.GetModel(model_pb2.GetModelRequest(name="other")))
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


async def test_models_are_listed_page_by_page(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        publish_fake(tmp_path, name)
    async with local_server(tmp_path, default_model="b") as server:
        await _until_ready(server, {"a", "b", "c"})
        names, token = [], ""
        while True:
            page = await server.models.ListModels(model_pb2.ListModelsRequest(page_size=2, page_token=token))
            names.append([(model.name, model.default) for model in page.models])
            if not (token := page.next_page_token):
                break
        assert names == [[("a", False), ("b", True)], [("c", False)]]


async def _until_ready(server: LocalServer, names: set[str]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            page = await server.models.ListModels(model_pb2.ListModelsRequest())
            ready = {
                model.name for model in page.models if model.versions[0].state == model_pb2.SERVABLE_STATE_READY
            }
            if ready == names:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("page_size", [-1, 1001])
async def test_a_page_size_out_of_range_is_rejected(server: LocalServer, page_size: int) -> None:
    rejection = await _rejected(server.models.ListModels(model_pb2.ListModelsRequest(page_size=page_size)))
    assert (rejection.code, rejection.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_size"])
