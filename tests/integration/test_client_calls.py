"""Tests both clients against a scripted server on a real socket: unary calls."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve_client import (
    NO_RETRIES,
    AsyncEmotionClient,
    CallCancelledError,
    ChannelOptions,
    DeadlineExceededError,
    EmotionClient,
    FerserveError,
    HealthStatus,
    ImageUnreadableError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    Prediction,
    QueueFullError,
    RetryPolicy,
    Servable,
    ServerDrainingError,
    ServerUnavailableError,
)
from support.relay import Relay
from support.scripted_server import BROKEN, DRAINING, QUEUE_FULL, Rejection, ScriptedServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = Rejection(grpc.StatusCode.INTERNAL, "INTERNAL")
NOBODY = "127.0.0.1:1"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[EmotionClient]:
    with EmotionClient(server.address) as opened:
        yield opened


def faces(*first_bytes: int) -> np.ndarray:
    return np.stack([np.full((48, 48), value, np.uint8) for value in first_bytes])


def test_classifies_an_array_of_faces(client: EmotionClient) -> None:
    results = client.classify(faces(3, 4, 6))

    assert [prediction.emotion for prediction in results] == ["happy", "sad", "neutral"]
    assert results.servable == Servable("fer-nano", 3)
    assert results.timing.total_ms == pytest.approx(1.5)


def test_sends_what_was_asked_for(client: EmotionClient, server: ScriptedServer) -> None:
    client.classify(faces(1), model="fer-wide", version=2, priority="bulk")

    (request,) = server.requests["ClassifyFaces"]
    assert (request.model.name, request.model.version, request.priority) == ("fer-wide", 2, 2)


def test_a_face_that_failed_raises_or_stands_in_its_place(client: EmotionClient) -> None:
    with pytest.raises(ImageUnreadableError):
        client.classify([b"\x03", BROKEN])

    fine, broken = client.classify([b"\x03", BROKEN], on_error="return")
    assert isinstance(fine, Prediction)
    assert isinstance(broken, ImageUnreadableError)


def test_analyzes_pictures_beside_a_broken_one(client: EmotionClient) -> None:
    broken, fine = client.analyze([BROKEN, b"\x04"])

    assert isinstance(broken.error, ImageUnreadableError)
    assert fine.faces[0].prediction is not None
    assert fine.faces[0].prediction.emotion == "sad"
    assert fine.servable == Servable("fer-nano", 3)


def test_lists_the_models_of_all_pages(client: EmotionClient) -> None:
    assert [model.name for model in client.models()] == ["fer-nano", "fer-wide"]


def test_describes_one_model(client: EmotionClient) -> None:
    assert client.model().is_default
    with pytest.raises(ModelNotFoundError, match="nope"):
        client.model("nope")


def test_asks_for_health(client: EmotionClient) -> None:
    assert client.health() is HealthStatus.SERVING
    assert client.health("fer-wide") is HealthStatus.NOT_SERVING
    with pytest.raises(NotFoundError):
        client.health("nope")


def test_a_draining_server_is_tried_again(client: EmotionClient, server: ScriptedServer) -> None:
    server.rejections["ClassifyFaces"].extend([DRAINING, DRAINING])

    assert len(client.classify(faces(1))) == 1
    assert len(server.requests["ClassifyFaces"]) == 3


def test_a_full_queue_is_tried_again_only_when_asked(server: ScriptedServer) -> None:
    server.rejections["ClassifyFaces"].append(QUEUE_FULL)
    with EmotionClient(server.address) as client, pytest.raises(QueueFullError):
        client.classify(faces(1))
    assert len(server.requests["ClassifyFaces"]) == 1

    server.rejections["ClassifyFaces"].append(QUEUE_FULL)
    with EmotionClient(server.address, retry=RetryPolicy(retry_when_full=True)) as client:
        assert len(client.classify(faces(1))) == 1


def test_a_wrong_request_is_not_tried_again(client: EmotionClient, server: ScriptedServer) -> None:
    server.rejections["AnalyzeImages"].append(
        Rejection(grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_IMAGES", violated_field="images")
    )

    with pytest.raises(InvalidRequestError) as raised:
        client.analyze([b"x"])

    assert raised.value.field_violations[0].field == "images"
    assert len(server.requests["AnalyzeImages"]) == 1


def test_nobody_there_is_reported_within_the_deadline() -> None:
    began = time.monotonic()
    with EmotionClient(NOBODY, timeout_s=0.5) as client, pytest.raises(ServerUnavailableError) as raised:
        client.health()

    assert raised.value.reason == ""
    assert time.monotonic() - began < 3.0


def test_a_server_that_accepts_and_says_nothing_runs_into_the_deadline() -> None:
    import socket  # noqa: PLC0415 - only here

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            EmotionClient(f"127.0.0.1:{port}", retry=NO_RETRIES) as client,
            pytest.raises((DeadlineExceededError, ServerUnavailableError)),
        ):
            client.classify(faces(1), timeout_s=0.3)


def test_many_threads_share_one_client(client: EmotionClient) -> None:
    seen: list[str] = []

    def classify(value: int) -> None:
        seen.extend(prediction.emotion for prediction in client.classify(faces(value)))

    threads = [threading.Thread(target=classify, args=(value,)) for value in (0, 1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)

    assert sorted(seen) == ["angry", "disgust", "fear", "happy"]


async def test_the_asyncio_twin_gives_the_same_answers(server: ScriptedServer) -> None:
    async with AsyncEmotionClient(server.address) as client:
        batches = await asyncio.gather(*(client.classify(faces(value, 6)) for value in (0, 3)))
        broken, fine = await client.analyze([BROKEN, b"\x04"])
        models = await client.models()
        model = await client.model()
        health = await client.health()
        returned = await client.classify([BROKEN], on_error="return")

    assert [[item.emotion for item in batch] for batch in batches] == [["angry", "neutral"], ["happy", "neutral"]]
    assert isinstance(broken.error, ImageUnreadableError)
    assert fine.error is None
    assert [item.name for item in models] == ["fer-nano", "fer-wide"]
    assert model.is_default
    assert health is HealthStatus.SERVING
    assert isinstance(returned[0], ImageUnreadableError)


async def test_the_asyncio_twin_tries_again_and_gives_up_alike(server: ScriptedServer) -> None:
    server.rejections["ClassifyFaces"].extend([DRAINING, QUEUE_FULL])
    async with AsyncEmotionClient(server.address) as client:
        with pytest.raises(QueueFullError) as raised:
            await client.classify(faces(1))
        assert raised.value.retry_delay_s == pytest.approx(0.01)
    async with AsyncEmotionClient(server.address, retry=NO_RETRIES) as client:
        server.rejections["ClassifyFaces"].append(DRAINING)
        with pytest.raises(ServerDrainingError):
            await client.classify(faces(1))
    async with AsyncEmotionClient(NOBODY, timeout_s=0.5) as client:
        with pytest.raises(ServerUnavailableError):
            await client.health()


async def test_closing_the_asyncio_client_ends_its_calls_with_an_error_and_not_a_cancellation(
    server: ScriptedServer,
) -> None:
    server.unblocked.clear()
    client = AsyncEmotionClient(server.address)
    stream = client.stream_frames([b"\x01"])
    answer = asyncio.create_task(anext(stream))
    await asyncio.to_thread(server.stream_began.wait, 10.0)

    await client.close()

    with pytest.raises(CallCancelledError):
        await answer


async def test_a_cancelled_task_stays_cancelled(server: ScriptedServer) -> None:
    server.unblocked.clear()
    async with AsyncEmotionClient(server.address) as client:
        stream = client.stream_frames([b"\x01"])
        answer = asyncio.create_task(anext(stream))
        await asyncio.to_thread(server.stream_began.wait, 10.0)

        answer.cancel()

        with pytest.raises(asyncio.CancelledError):
            await answer


def test_errors_keep_the_details_of_the_call_as_their_cause(client: EmotionClient, server: ScriptedServer) -> None:
    server.rejections["ClassifyFaces"].append(SLOW)

    with pytest.raises(FerserveError) as raised:
        client.classify(faces(1))

    assert isinstance(raised.value.__cause__ or raised.value.__context__, grpc.RpcError)


def test_a_server_that_has_fallen_silent_is_noticed_long_before_the_deadline(server: ScriptedServer) -> None:
    options = ChannelOptions(keepalive_s=1.0, keepalive_timeout_s=1.0)
    with Relay(server.address) as relay, EmotionClient(relay.address, retry=NO_RETRIES, options=options) as client:
        client.classify(faces(3))
        relay.fall_silent()

        with pytest.raises(ServerUnavailableError, match=r"(?i)ping|keepalive"):
            client.classify(faces(3), timeout_s=45)
