"""Tests models that are added, changed and broken while the server runs, and its health."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.services.health import EMOTION_SERVICE, MODEL_SERVICE
from support.engine_server import ENGINES, engine_server
from support.fake_models import publish_fake
from support.local_server import (
    DEADLINE_S,
    NOT_SERVING,
    SERVING,
    LocalServer,
    Stubs,
    classes_of,
    eventually,
    local_server,
    packed,
    rejection_of,
)

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2, 3))


async def _version(server: LocalServer) -> int:
    response = await server.emotion.ClassifyFaces(REQUEST)
    assert classes_of(response) == [1, 2, 3]
    return int(response.servable.version)


async def _states(server: LocalServer) -> dict[int, str]:
    model = (await server.models.GetModel(model_pb2.GetModelRequest())).model
    return {each.version: model_pb2.ServableState.Name(each.state) for each in model.versions}


async def test_an_empty_server_tells_about_models_and_serves_when_the_first_one_comes(tmp_path: Path) -> None:
    async with local_server(tmp_path / "models", ready=False) as server:
        await server.wait_for(SERVING, MODEL_SERVICE)
        assert [await server.state(service) for service in ("", EMOTION_SERVICE)] == [NOT_SERVING, NOT_SERVING]
        assert len((await server.models.ListModels(model_pb2.ListModelsRequest())).models) == 0
        watch = server.health.Watch(health_pb2.HealthCheckRequest(service=EMOTION_SERVICE))
        assert (await watch.read()).status == NOT_SERVING
        publish_fake(tmp_path / "models")
        assert (await asyncio.wait_for(watch.read(), DEADLINE_S)).status == SERVING
        assert await _version(server) == 1
        watch.cancel()


async def test_health_of_a_service_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with local_server(tmp_path, ready=False) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.state("nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_new_version_becomes_active_without_a_failed_call(tmp_path: Path, engine: str) -> None:
    publish_fake(tmp_path, version=1)
    async with asyncio.timeout(2 * DEADLINE_S), engine_server(tmp_path, engine) as server:
        seen: list[int] = []
        done = asyncio.Event()

        async def call_without_end() -> None:
            while not done.is_set():
                seen.append(await _version(server))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(call_without_end())
            await eventually(lambda: _answered_by(seen, 1))
            publish_fake(tmp_path, version=2)
            await eventually(lambda: _answered_by(seen, 2))
            publish_fake(tmp_path, version=3)
            await eventually(lambda: _answered_by(seen, 3))
            done.set()
        assert set(seen) == {1, 2, 3}
        await eventually(lambda: _is(_states(server), {3: "READY", 2: "UNLOADED", 1: "UNLOADED"}))


async def _answered_by(seen: list[int], version: int) -> bool:
    return version in seen


async def _is(states, expected: dict[int, str]) -> bool:
    return await states == {version: f"SERVABLE_STATE_{state}" for version, state in expected.items()}


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_broken_newer_version_is_reported_and_the_old_one_answers_on(tmp_path: Path, engine: str) -> None:
    publish_fake(tmp_path, version=1)
    async with engine_server(tmp_path, engine) as server:
        publish_fake(tmp_path, version=2, golden_off_by=0.1)
        await eventually(lambda: _is(_states(server), {2: "FAILED", 1: "READY"}))
        model = (await server.models.GetModel(model_pb2.GetModelRequest())).model
        assert model.versions[0].failure.reason == "GOLDEN_MISMATCH"
        assert await _version(server) == 1
        assert await server.state() == SERVING


async def test_the_last_good_version_answers_on_when_its_folder_is_gone(tmp_path: Path) -> None:
    folder = publish_fake(tmp_path, version=1)
    async with local_server(tmp_path) as server:
        shutil.rmtree(folder.parent)
        publish_fake(tmp_path, "other")

        async def other_is_there() -> bool:
            models = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
            return [model.name for model in models] == ["fer-nano", "other"]

        await eventually(other_is_there)  # so the folder was looked at since
        assert await _version(server) == 1


async def test_a_drain_flips_health_before_anything_is_rejected(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, lame_duck_s=0.5) as server:
        services = ("", EMOTION_SERVICE, MODEL_SERVICE)
        drained = server.running.drain()
        for service in services:
            await server.wait_for(NOT_SERVING, service)
        assert await _version(server) == 1
        assert await drained


async def test_without_looking_again_a_broken_newest_version_still_gives_way_at_start(tmp_path: Path) -> None:
    publish_fake(tmp_path, version=1)
    publish_fake(tmp_path, version=2, golden_off_by=0.1)
    async with local_server(tmp_path, repository_poll_s=0) as server:
        assert await _version(server) == 1


async def test_a_drain_that_runs_out_of_time_says_so(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, hold_until_queued=100, drain_timeout_s=0.2) as server:
        call = server.emotion.ClassifyStream()
        await call.write(emotion_pb2.ClassifyStreamRequest(sequence_id=0, faces=REQUEST.packed))
        await server.models.ListModels(model_pb2.ListModelsRequest())  # so the stream was taken
        assert not await server.running.drain()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_drain_under_load_answers_every_call(tmp_path: Path, engine: str) -> None:
    publish_fake(tmp_path)
    async with asyncio.timeout(2 * DEADLINE_S), engine_server(tmp_path, engine) as server:
        answered: list[int] = []

        async def call_until_rejected() -> str:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(server.address, options) as channel:
                stubs = Stubs(channel)
                while True:
                    try:
                        response = await stubs.emotion.ClassifyFaces(REQUEST)
                    except grpc.aio.AioRpcError as error:
                        return rejection_of(error).reason or str(error)
                    answered.append(response.servable.version)

        clients = [asyncio.ensure_future(call_until_rejected()) for _ in range(16)]
        await eventually(lambda: _answered_by(answered, 1))
        assert await server.running.drain()
        endings = [await client for client in clients]
        assert all("failed to connect" in ending for ending in endings), endings
