"""Tests versions in engine processes: real processes and a real socket, without TensorFlow."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from support.engine_children import CRASH, CRASHING, HANG, RAISE, RAISING, REJECTED, SLOW, special_face
from support.engine_server import ENGINES, engine_server
from support.fake_models import publish_fake
from support.local_server import (
    NOT_SERVING,
    SERVING,
    LocalServer,
    Rejection,
    classes_of,
    eventually,
    packed,
    rejection_of,
)
from support.processes import ENGINE, children
from support.worker_server import metric

if TYPE_CHECKING:
    from collections.abc import Awaitable

REQUEST = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2, 3))


def _request(*what: int) -> emotion_pb2.ClassifyFacesRequest:
    pixels = np.stack([special_face(each) for each in what]).tobytes()
    return emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=pixels, face_count=len(what)))


def _priorities(pid: int) -> list[int]:
    """The priority of each thread of a process."""
    return [os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]


async def _rejection(call: Awaitable[object]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rejection_of(caught.value)


async def _answers(server: LocalServer) -> bool:
    try:
        return classes_of(await server.emotion.ClassifyFaces(REQUEST)) == [1, 2, 3]
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


async def _versions(server: LocalServer) -> dict[int, tuple[str, str]]:
    model = (await server.models.GetModel(model_pb2.GetModelRequest())).model
    return {
        each.version: (model_pb2.ServableState.Name(each.state), each.failure.reason) for each in model.versions
    }


async def test_faces_are_classified_in_a_process_of_their_own(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, executor_count=2) as server:
        many = [
            server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(i % 7, 3)))
            for i in range(50)
        ]
        answers = await asyncio.gather(*many)

        assert [classes_of(answer) for answer in answers] == [[i % 7, 3] for i in range(50)]
        assert len(children(ENGINE)) == 1


async def test_a_killed_engine_fails_its_batch_and_comes_back_by_itself(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        running = asyncio.ensure_future(server.emotion.ClassifyFaces(_request(HANG)))
        await asyncio.sleep(0.2)  # it is on its way; if it is not, the engine is killed before, and it waits
        (pid,) = children(ENGINE)
        os.kill(pid, signal.SIGKILL)
        waiting = asyncio.ensure_future(server.emotion.ClassifyFaces(REQUEST))

        rejection = await _rejection(running)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
        assert (rejection.retry_delay_ms, rejection.metadata["retry_safe"]) == (None, "false")
        assert classes_of(await waiting) == [1, 2, 3]
        await server.wait_for(SERVING)
        (new_pid,) = children(ENGINE)
        assert new_pid != pid


async def test_a_face_that_crashes_the_engine_takes_nobody_with_it_for_long(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        rejection = await _rejection(server.emotion.ClassifyFaces(_request(CRASH)))
        assert rejection.reason == "ENGINE_LOST"

        await eventually(lambda: _answers(server))


async def test_a_face_that_crashes_the_engine_does_so_twice_at_most_however_often_it_is_sent(
    tmp_path: Path,
) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        pids = set(children(ENGINE))
        for _ in range(2):
            rejection = await _rejection(server.emotion.ClassifyFaces(_request(CRASH)))
            assert (rejection.reason, rejection.metadata["retry_safe"]) == ("ENGINE_LOST", "false")
            await eventually(lambda: _answers(server))
            pids |= set(children(ENGINE))
        for _ in range(5):
            good, bad = (await server.emotion.ClassifyFaces(_request(5, CRASH))).results
            assert good.prediction.label_index == 10 % 7
            assert bad.failure.reason == "INFERENCE_FAILED"

        assert len(pids | set(children(ENGINE))) == 3


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_face_that_raises_fails_alone(tmp_path: Path, engine: str) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, engine) as server:
        good, bad = (await server.emotion.ClassifyFaces(_request(5, RAISE))).results

        assert good.prediction.label_index == 10 % 7
        assert bad.failure.reason == "INFERENCE_FAILED"


@pytest.mark.parametrize("how", ["a batch that hangs", "SIGSTOP"])
async def test_an_engine_that_hangs_is_killed_and_another_takes_its_place(tmp_path: Path, how: str) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, execution_timeout_s=1.5) as server:
        (pid,) = children(ENGINE)
        if how == "SIGSTOP":
            os.kill(pid, signal.SIGSTOP)
        rejection = await _rejection(server.emotion.ClassifyFaces(_request(HANG)))

        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_STALLED")
        await eventually(lambda: _answers(server))
        await server.wait_for(SERVING)
        assert pid not in children(ENGINE)


async def test_with_engine_thread_a_batch_that_hangs_fails_alone_too(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, "thread", execution_timeout_s=1.5) as server:
        rejection = await _rejection(server.emotion.ClassifyFaces(_request(HANG)))

        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_STALLED")
        await eventually(lambda: _answers(server))
        await server.wait_for(SERVING)


@pytest.mark.parametrize("engine", ENGINES)
async def test_callers_who_come_together_share_a_batch(tmp_path: Path, engine: str) -> None:
    publish_fake(tmp_path)
    settings = {"hold_until_queued": 8, "metrics_listen": "127.0.0.1:0"}
    async with engine_server(tmp_path, engine, **settings) as server:
        calls = [server.emotion.ClassifyFaces(_request(2 * i, 2 * i + 1), timeout=60) for i in range(4)]
        answers = await asyncio.gather(*calls)

        assert [classes_of(answer) for answer in answers] == [[4 * i % 7, (4 * i + 2) % 7] for i in range(4)]
        assert await metric(server, "batch_size_faces_count", model="fer-nano") == 1
        assert await metric(server, "batch_size_faces_sum", model="fer-nano") == 8


@pytest.mark.parametrize(
    ("version", "reason"),
    [(CRASHING, "ENGINE_LOST"), (RAISING, "LOAD_FAILED"), (REJECTED, "SIGNATURE_MISMATCH")],
)
async def test_a_version_that_fails_while_it_is_loaded_harms_nothing(
    tmp_path: Path, version: int, reason: str
) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        publish_fake(tmp_path, version=version)

        async def rejected() -> bool:
            return (await _versions(server)).get(version) == ("SERVABLE_STATE_FAILED", reason)

        await eventually(rejected)
        assert await _answers(server)
        assert len(children(ENGINE)) == 1


async def test_a_version_that_goes_takes_its_process_and_memory_with_it(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        (old,) = children(ENGINE)
        publish_fake(tmp_path, version=2)

        async def replaced() -> bool:
            return len(children(ENGINE)) == 1 and old not in children(ENGINE)

        await eventually(replaced)
        assert (await server.emotion.ClassifyFaces(REQUEST)).servable.version == 2


async def test_validation_runs_at_low_priority_and_live_traffic_does_not(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    async with engine_server(tmp_path, executor_count=2, versions_per_model=2) as server:
        publish_fake(tmp_path, version=2)

        async def both() -> bool:
            return (await _versions(server)).get(2, ("", ""))[0] == "SERVABLE_STATE_READY"

        await eventually(both)
        for pid in children(ENGINE):
            priorities = _priorities(pid)
            assert 19 in priorities  # what answers requests: validation of this version, or beside it
            assert priorities.count(usual) >= 4  # the main thread, the watch and the two that serve


async def test_an_engine_whose_files_have_changed_is_not_brought_back_until_they_are_right_again(
    tmp_path: Path,
) -> None:
    version = publish_fake(tmp_path / "models")
    async with engine_server(tmp_path / "models", repository_poll_s=0) as server:
        shutil.copytree(version, tmp_path / "kept")
        (version / "saved_model.pb").write_bytes(b"other weights")
        (pid,) = children(ENGINE)
        os.kill(pid, signal.SIGKILL)
        await server.wait_for(NOT_SERVING)

        async def rejected() -> bool:
            return not await _answers(server)

        await eventually(rejected)
        shutil.copy(tmp_path / "kept" / "saved_model.pb", version / "saved_model.pb")
        await eventually(lambda: _answers(server))


async def test_draining_answers_what_an_engine_still_runs(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path) as server:
        asked = asyncio.ensure_future(server.emotion.ClassifyFaces(_request(SLOW)))
        await asyncio.sleep(0.1)

        assert await server.running.drain()
        assert len((await asked).results) == 1


async def test_the_model_is_asked_for_by_name_as_ever(tmp_path: Path) -> None:
    publish_fake(tmp_path, "fer-nano")
    publish_fake(tmp_path, "fer-small")
    async with engine_server(tmp_path) as server:

        async def both() -> bool:
            request = emotion_pb2.ClassifyFacesRequest(
                model=servable_pb2.ModelSpec(name="fer-small"), packed=packed(4)
            )
            try:
                return classes_of(await server.emotion.ClassifyFaces(request)) == [4]
            except grpc.aio.AioRpcError:
                return False

        await eventually(both)
        assert len(children(ENGINE)) == 2
