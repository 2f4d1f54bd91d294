"""Tests worker processes and engine processes together: a fault of one leaves the others unaffected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from support.engine_children import CRASH, HANG, SLOW, special_face
from support.engine_server import fake_engines
from support.fake_models import publish_fake
from support.local_server import NOT_SERVING, Rejection, Stubs, classes_of, eventually, packed, rejection_of
from support.processes import ENGINE, FRONT, children
from support.worker_server import callers_by_process, metric, worker_server, workers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from support.local_server import LocalServer

VERSION = {"model": "fer-nano", "version": "1"}


def _faces(*classes: int) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))


def _face_that(what: int) -> emotion_pb2.ClassifyFacesRequest:
    pixels = np.ascontiguousarray(special_face(what)).tobytes()
    return emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=pixels, face_count=1))


@contextlib.asynccontextmanager
async def _service(
    repository: Path, *, executor_count: int = 1, **settings: object
) -> AsyncIterator[tuple[LocalServer, Stubs, Stubs]]:
    """Two worker processes, an engine process, and a caller on each of the former."""
    publish_fake(repository)
    chosen = {"metrics_listen": "127.0.0.1:0"} | settings
    with fake_engines(repository, executor_count=executor_count) as loader:
        async with worker_server(repository, loader, **chosen) as server, callers_by_process(server, 1) as stubs:
            assert set(children(FRONT)) == set(stubs)
            assert len(children(ENGINE)) == 1
            (one, *_), (other, *_) = stubs.values()
            yield server, one, other
    assert children(FRONT, ENGINE) == {}


async def _rejection(call: Awaitable[object]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rejection_of(caught.value)


async def test_an_engine_crash_fails_what_it_ran_for_callers_on_every_worker_process(
    tmp_path: Path,
) -> None:
    async with _service(tmp_path, executor_count=2) as (server, one, other):
        workers, (engine,) = workers_of(server), children(ENGINE)
        pids = set(workers.pids)
        running = asyncio.ensure_future(one.emotion.ClassifyFaces(_face_that(HANG), timeout=60))

        async def taken() -> bool:
            return workers.face_count == 1

        await eventually(taken)
        rejections = [await _rejection(other.emotion.ClassifyFaces(_face_that(CRASH), timeout=60))]
        rejections.append(await _rejection(running))
        for rejection in rejections:
            assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_LOST")
            assert "ended while it ran this request, and is being restarted" in rejection.message
            assert (rejection.retry_delay_ms, rejection.metadata["retry_safe"]) == (None, "false")
        for stubs in (one, other):  # what comes now waits for the next engine
            assert classes_of(await stubs.emotion.ClassifyFaces(_faces(1, 2), timeout=60)) == [1, 2]
            await stubs.wait_for()
        assert set(workers.pids) == set(children(FRONT)) == pids
        assert set(children(ENGINE)) != {engine}
        assert len(children(ENGINE)) == 1
        assert await metric(server, "engine_restarts_total", **VERSION) == 1
        assert await metric(server, "engine_resident_bytes", **VERSION) > 0
        assert await metric(server, "worker_restarts_total") == 0


async def test_an_engine_that_hangs_is_replaced_for_callers_on_every_worker_process(tmp_path: Path) -> None:
    async with _service(tmp_path, execution_timeout_s=1.5) as (_, one, other):
        rejection = await _rejection(one.emotion.ClassifyFaces(_face_that(HANG), timeout=60))
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_STALLED")
        for stubs in (one, other):

            async def answered(stubs: Stubs = stubs) -> bool:
                try:
                    return classes_of(await stubs.emotion.ClassifyFaces(_faces(3), timeout=60)) == [3]
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False

            await eventually(answered)
            await stubs.wait_for()


async def test_a_new_version_becomes_active_on_every_worker_process_without_a_failed_call(tmp_path: Path) -> None:
    async with _service(tmp_path) as (_, one, other):
        (engine,) = children(ENGINE)
        callers: list[tuple[Stubs, list[int]]] = [(stubs, []) for stubs in (one, one, other, other)]
        done = asyncio.Event()

        async def call_without_end(stubs: Stubs, versions: list[int]) -> None:
            while not done.is_set():
                answer = await stubs.emotion.ClassifyFaces(_faces(4), timeout=60)
                assert classes_of(answer) == [4]
                versions.append(int(answer.servable.version))

        async def answered_by(version: int) -> bool:
            return all(version in versions for _, versions in callers)

        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(call_without_end(*caller))
            await eventually(lambda: answered_by(1))
            publish_fake(tmp_path, version=2)
            await eventually(lambda: answered_by(2))
            done.set()

        async def old_engine_gone() -> bool:
            return len(children(ENGINE)) == 1 and engine not in children(ENGINE)

        await eventually(old_engine_gone)
        for _, versions in callers:
            assert set(versions) == {1, 2}


async def test_a_drain_answers_what_the_engine_still_runs_for_every_worker_process(tmp_path: Path) -> None:
    async with _service(tmp_path) as (server, one, other):
        asked = [
            asyncio.ensure_future(each.emotion.ClassifyFaces(_face_that(SLOW), timeout=60))
            for each in (one, other)
        ]

        async def taken() -> bool:
            return workers_of(server).face_count == len(asked)

        await eventually(taken)
        assert await server.running.drain()
        assert [len((await call).results) for call in asked] == [1, 1]


async def test_an_engine_that_is_killed_in_the_drain_leaves_nobody_unanswered_and_nothing_behind(
    tmp_path: Path,
) -> None:
    async with _service(tmp_path) as (server, one, other):
        running = asyncio.ensure_future(one.emotion.ClassifyFaces(_face_that(HANG), timeout=60))

        async def taken(count: int) -> bool:
            return workers_of(server).face_count == count

        await eventually(lambda: taken(1))
        waiting = asyncio.ensure_future(other.emotion.ClassifyFaces(_faces(5), timeout=60))
        await eventually(lambda: taken(2))
        draining = server.running.drain()
        with contextlib.suppress(grpc.aio.AioRpcError):  # new connections are not taken any more
            await other.wait_for(NOT_SERVING)
        (engine,) = children(ENGINE)
        os.kill(engine, signal.SIGKILL)
        assert (await _rejection(running)).reason == "ENGINE_LOST"
        assert classes_of(await waiting) == [5]  # by the next engine
        assert await draining
