"""Tests engines that hang, are killed in a row, or lie (faults, items 6b and 12)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from support.engine_server import engine_server
from support.fake_models import publish_fake
from support.local_server import SERVING, LocalServer, classes_of, eventually, packed, rejection_of
from support.processes import ENGINE, children, wait_for_end
from support.worker_server import metric

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2, 3))


async def _answered_at(server: LocalServer) -> float:
    """Calls until there is an answer, and returns the time."""
    while True:
        try:
            answer = await server.emotion.ClassifyFaces(REQUEST, timeout=30)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            continue
        assert classes_of(answer) == [1, 2, 3]
        return time.monotonic()


async def test_an_engine_that_is_stopped_is_replaced_by_what_its_batches_take(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, execution_timeout_s=60.0) as server:
        await _answered_at(server)
        (pid,) = children(ENGINE)
        os.kill(pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(REQUEST, timeout=40)

        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_STALLED")
        assert time.monotonic() - stopped_at < 40
        await _answered_at(server)
        await server.wait_for(SERVING)
        assert pid not in children(ENGINE)


async def _standby(server: LocalServer, serving: int) -> int:
    async def two() -> bool:
        return len(children(ENGINE)) == 2

    await eventually(two, 60)
    (standby,) = children(ENGINE).keys() - {serving}
    (engine,) = server.loader._engines
    await eventually(lambda: _is_ready(engine), 60)
    return standby


async def _is_ready(engine: object) -> bool:
    return engine.standby_ready


async def test_a_standby_replaces_it_and_another_is_made_in_its_place(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, standby_count=1) as server:
        await _answered_at(server)
        (engine,) = server.loader._engines
        serving = engine.process.pid
        for _ in range(5):  # kills in a row find one each time
            standby = await _standby(server, serving)
            os.kill(serving, signal.SIGKILL)
            killed_at = time.monotonic()
            took_s = await _answered_at(server) - killed_at
            assert took_s < 5.0  # benchmarks/standby.py has the figures
            assert await server.state() == SERVING
            assert standby in children(ENGINE)
            serving = standby


async def test_a_standby_that_ends_is_replaced_without_harm(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, standby_count=1) as server:
        await _answered_at(server)
        (engine,) = server.loader._engines
        standby = await _standby(server, engine.process.pid)
        os.kill(standby, signal.SIGKILL)
        await asyncio.to_thread(wait_for_end, standby)

        assert await _standby(server, engine.process.pid) != standby
        await _answered_at(server)


async def test_the_batch_of_a_lost_engine_is_unavailable_and_later_ones_go_to_the_standby(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with engine_server(tmp_path, standby_count=1, metrics_listen="127.0.0.1:0") as server:
        await _answered_at(server)
        (engine,) = server.loader._engines
        await _standby(server, engine.process.pid)
        os.kill(engine.process.pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(server.emotion.ClassifyFaces(REQUEST, timeout=30)) for _ in range(40)]
        await asyncio.sleep(0.2)
        os.kill(engine.process.pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        lost = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
        assert {each.code() for each in lost} <= {grpc.StatusCode.UNAVAILABLE}
        assert len(lost) < len(outcomes)
        await eventually(lambda: _was_restarted(server))


async def _was_restarted(server: LocalServer) -> bool:
    return await metric(server, "engine_restarts_total", model="fer-nano", version="1") == 1
