"""Tests that callers and the server count the same in a storm of calls of every kind, class by class."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve.v1 import servable_pb2
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, LocalServer, Stubs, local_server, packed, rejection_of
from support.worker_server import callers, scrape, worker_server

if TYPE_CHECKING:
    from pathlib import Path

CALLS_PER_CALLER = 60
GIVEN_UP = {"CANCELLED", "DEADLINE_EXCEEDED"}
"""Which of both it is depends on whose timer is first."""

METHODS = {
    "ClassifyFaces": "/ferserve.v1.EmotionService/ClassifyFaces",
    "AnalyzeImages": "/ferserve.v1.EmotionService/AnalyzeImages",
    "GetModel": "/ferserve.v1.ModelService/GetModel",
    "ListModels": "/ferserve.v1.ModelService/ListModels",
    "ModelInfer": "/inference.GRPCInferenceService/ModelInfer",
    "Predict": "/tensorflow.serving.PredictionService/Predict",
}
STREAMS = {
    "StreamFrames": "/ferserve.v1.EmotionService/StreamFrames",
    "ClassifyStream": "/ferserve.v1.EmotionService/ClassifyStream",
    "ModelStreamInfer": "/inference.GRPCInferenceService/ModelStreamInfer",
}
NO_MESSAGE = b"\xff\xff\xff"


def request(kind: str, chance: random.Random) -> tuple[str, bytes]:
    """A method, and the message that it is called with."""
    faces = packed(*[chance.randrange(7)] * chance.choice((1, 4, 16)))
    match kind:
        case "good":
            return "ClassifyFaces", emotion_pb2.ClassifyFacesRequest(packed=faces).SerializeToString()
        case "unreadable":
            return chance.choice(list(METHODS)), NO_MESSAGE
        case "empty":
            return "ClassifyFaces", b""
        case "unknown model":
            spec = servable_pb2.ModelSpec(name="none")
            message = emotion_pb2.ClassifyFacesRequest(packed=faces, model=spec)
            return "ClassifyFaces", message.SerializeToString()
        case "no picture":
            return "AnalyzeImages", emotion_pb2.AnalyzeImagesRequest(images=[b"no"]).SerializeToString()
        case _:
            return "GetModel", model_pb2.GetModelRequest(name="fer-nano").SerializeToString()


KINDS = ("good", "good", "unreadable", "empty", "unknown model", "no picture", "model")


async def storm(stubs: Stubs, seed: int, seen: Counter[tuple[str, str]]) -> None:
    """Makes calls one after the other, some of which are cancelled or have little time; counts how they end."""
    chance = random.Random(seed)  # noqa: S311 - a storm, no secret
    for _ in range(CALLS_PER_CALLER):
        method, message = request(chance.choice(KINDS), chance)
        timeout_s = chance.choice((20.0, 20.0, 0.004))
        call = stubs.channel.unary_unary(METHODS[method])(message, timeout=timeout_s)
        if chance.random() < 0.1:
            asyncio.get_running_loop().call_later(chance.random() * 0.004, call.cancel)
        seen[method, (await call.code()).name] += 1


async def check(server: LocalServer, connections: list[Stubs]) -> None:
    """Makes the storm and compares."""
    before = await asyncio.to_thread(scrape, server)
    seen: Counter[tuple[str, str]] = Counter()
    await asyncio.gather(*(storm(stubs, seed, seen) for seed, stubs in enumerate(connections)))
    ours = merged(seen)
    theirs: Counter[tuple[str, str]] = Counter()

    async def agree() -> bool:
        now = await asyncio.to_thread(scrape, server)
        theirs.clear()
        theirs.update(merged(requests(now) - requests(before)))
        return settled(ours, theirs)

    try:
        async with asyncio.timeout(20):
            while not await agree():  # noqa: ASYNC110 - what is waited for has no event here
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"callers saw {dict(ours)}, the server counted {dict(theirs)}")
    now = await asyncio.to_thread(scrape, server)
    in_progress = [value for (name, _), value in now.items() if name == "ferserve_requests_in_progress"]
    assert not any(in_progress)


def settled(ours: Counter[tuple[str, str]], theirs: Counter[tuple[str, str]]) -> bool:
    """Whether both agree: calls that their callers gave up may have been answered, or never have come."""
    for method in METHODS:
        given_up = ours[method, "GIVEN_UP"]
        codes = {code for each, code in (*ours, *theirs) if each == method and code != "GIVEN_UP"}
        more = [theirs[method, code] - ours[method, code] for code in codes]
        if min(more, default=0) < 0 or sum(more) + theirs[method, "GIVEN_UP"] > given_up:
            return False
    return True


def requests(samples: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> Counter[tuple[str, str]]:
    """Calls that ended, by method and code."""
    found: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in samples.items():
        if name == "ferserve_requests_total":
            by_name = dict(labels)
            found[by_name["method"], by_name["code"]] += int(value)
    return found


def merged(seen: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """The two codes of calls that were given up as one."""
    found: Counter[tuple[str, str]] = Counter()
    for (method, code), count in seen.items():
        found[method, "GIVEN_UP" if code in GIVEN_UP else code] += count
    return found


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_callers_and_the_server_count_the_same(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    async with (
        local_server(
            tmp_path,
            grpc_server=grpc_server,
            metrics_listen="127.0.0.1:0",
            max_queue_faces=32,
            max_faces_per_request=32,
        ) as server,
        callers(server, 6) as connections,
    ):
        await check(server, connections)


async def test_callers_and_the_server_count_the_same_over_worker_processes(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with (
        worker_server(
            tmp_path, metrics_listen="127.0.0.1:0", max_queue_faces=32, max_faces_per_request=32
        ) as server,
        callers(server, 6) as connections,
    ):
        await check(server, connections)


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("method", METHODS)
async def test_an_unreadable_message_is_an_invalid_argument_and_counted(
    tmp_path: Path, grpc_server: str, method: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, metrics_listen="127.0.0.1:0") as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.channel.unary_unary(METHODS[method])(NO_MESSAGE, timeout=20)

        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_UNREADABLE")
        counted = requests(await asyncio.to_thread(scrape, server))
        assert counted[method, "INVALID_ARGUMENT"] == 1


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("method", STREAMS)
async def test_an_unreadable_message_ends_a_stream_with_invalid_argument(
    tmp_path: Path, grpc_server: str, method: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, metrics_listen="127.0.0.1:0") as server:
        call: Any = server.channel.stream_stream(STREAMS[method])(timeout=20)
        await call.write(NO_MESSAGE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass

        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_UNREADABLE")
        assert requests(await asyncio.to_thread(scrape, server))[method, "INVALID_ARGUMENT"] == 1


async def test_cancellations_are_counted_in_worker_processes_as_in_the_primary(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    settings = {"hold_until_queued": 16, "metrics_listen": "127.0.0.1:0"}
    async with worker_server(tmp_path, **settings) as server, callers(server, 6) as connections:
        message = emotion_pb2.ClassifyFacesRequest(packed=packed(1)).SerializeToString()
        calls = [stubs.channel.unary_unary(METHODS["ClassifyFaces"])(message) for stubs in connections]
        async with asyncio.timeout(20):
            while (await queue_depth(server)) != len(calls):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()

        async with asyncio.timeout(20):
            while await cancellations(server) != len(calls):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)


async def queue_depth(server: LocalServer) -> float:
    samples = await asyncio.to_thread(scrape, server)
    return sum(value for (name, _), value in samples.items() if name == "ferserve_queue_depth_faces")


async def cancellations(server: LocalServer) -> float:
    samples = await asyncio.to_thread(scrape, server)
    return sum(value for (name, _), value in samples.items() if name == "ferserve_cancellations_total")
