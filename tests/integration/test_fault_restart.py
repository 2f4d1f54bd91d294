"""Tests that restarts fail no call: clients are sent elsewhere first (faults, item 15)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc
from ferserve_server.backends.fake import FakeLoader
from ferserve_server.runtime.addresses import ListenError
from support.fake_models import publish_fake
from support.http import BlockingLoader
from support.local_server import LocalServer, eventually, local_server, packed, rejection_of
from support.pictures import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FACE = encode(np.zeros((48, 48), np.uint8), "PNG")
CROPS = emotion_pb2.ClassifyFacesRequest(packed=packed(3))
RESTARTS = 3
"""Restarts of each server."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Member:
    """One of two servers that are restarted at the same ports. The version in its answers is its number."""

    def __init__(self, models: Path, number: int) -> None:
        publish_fake(models, version=number)
        self._models = models
        self.number = number
        self.grpc_port, self.http_port = _free_port(), _free_port()
        self._stack = contextlib.AsyncExitStack()
        self.server: LocalServer | None = None

    async def start(self) -> None:
        addresses = {
            "listen": f"127.0.0.1:{self.grpc_port}",
            "http_listen": f"127.0.0.1:{self.http_port}",
        }
        self.server = await self._stack.enter_async_context(local_server(self._models, FakeLoader(), **addresses))

    async def stop(self) -> None:
        assert self.server is not None
        assert await self.server.running.drain()
        await self._stack.aclose()


class Load:
    """Callers without a retry policy, over gRPC with `round_robin` and over HTTP, and what became of each call."""

    def __init__(self, members: list[Member]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.answers: Counter[tuple[str, int]] = Counter()
        self._members = members
        self._stopped = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        target = "ipv4:" + ",".join(f"127.0.0.1:{member.grpc_port}" for member in self._members)
        options: list[tuple[str, Any]] = [
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        async with grpc.aio.insecure_channel(target, options) as channel, aiohttp.ClientSession() as session:
            stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
            callers = [asyncio.ensure_future(self._call(stub)) for _ in range(4)]
            callers += [asyncio.ensure_future(self._post(session)) for _ in range(2)]
            try:
                yield
            finally:
                self._stopped = True
                await asyncio.gather(*callers)

    async def _call(self, stub: Any) -> None:
        while not self._stopped:
            try:
                response = await stub.ClassifyFaces(CROPS, timeout=20)
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"gRPC {error.code().name} {rejection_of(error).reason} {error.details()}"] += 1
                continue
            self.outcomes["answered"] += 1
            self.answers["gRPC", response.servable.version] += 1
            await asyncio.sleep(0.001)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        """Posts to one server after the other; where nobody listens nothing is sent, and the next one gets it."""
        number = 0
        while not self._stopped:
            number += 1
            member = self._members[number % 2]
            url = f"http://127.0.0.1:{member.http_port}/v1/analyze?detect=false"
            try:
                async with session.post(url, data=FACE, headers={"Content-Type": "image/png"}) as answer:
                    body = await answer.read()
                    outcome = "answered" if answer.status == 200 else f"HTTP {answer.status} {body!r}"
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.001)
                continue
            except aiohttp.ClientError as error:
                outcome = f"HTTP {error!r}"
            self.outcomes[outcome] += 1
            self.answers["HTTP", member.number] += 1


async def test_rolling_restarts_behind_round_robin_without_retries_fail_no_call(tmp_path: Path) -> None:
    members = [Member(tmp_path / str(number), number) for number in (1, 2)]
    for member in members:
        await member.start()
    load = Load(members)
    async with asyncio.timeout(120), load.running():
        for _ in range(RESTARTS):
            for member in members:
                await member.stop()
                await member.start()
                await _is_used(member, load)
    for member in members:
        await member.stop()

    assert set(load.outcomes) == {"answered"}, load.outcomes
    assert load.outcomes["answered"] > 20 * RESTARTS


async def _is_used(member: Member, load: Load) -> None:
    """Waits until callers of both kinds are answered by a server that was restarted."""
    before = load.answers.copy()

    async def used() -> bool:
        return all(
            load.answers[kind, member.number] > before[kind, member.number] + 5 for kind in ("gRPC", "HTTP")
        )

    await eventually(used)


async def _state_of(port: int) -> type[BaseException] | None:
    """How a TCP connection to a port ends; None if it is accepted."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError as error:
        return type(error)
    writer.close()
    return None


@pytest.mark.parametrize("processes", [1, 2])
async def test_no_port_accepts_before_a_model_answers(tmp_path: Path, processes: int) -> None:
    ports = [_free_port(), _free_port()]
    addresses = {"listen": f"127.0.0.1:{ports[0]}", "http_listen": f"127.0.0.1:{ports[1]}"}
    loader = BlockingLoader()
    loader.unblocked.clear()
    publish_fake(tmp_path)
    starting = contextlib.AsyncExitStack()
    server = asyncio.ensure_future(
        starting.enter_async_context(local_server(tmp_path, loader, processes=processes, **addresses))
    )
    for _ in range(20):
        assert [await _state_of(port) for port in ports] == [ConnectionRefusedError] * 2
        await asyncio.sleep(0.01)
    loader.unblocked.set()
    running = await server
    assert len((await running.emotion.ClassifyFaces(CROPS)).results) == 1
    assert [await _state_of(port) for port in ports] == [None] * 2
    await starting.aclose()


async def test_a_setting_opens_the_ports_at_once(tmp_path: Path) -> None:
    loader = BlockingLoader()
    loader.unblocked.clear()
    publish_fake(tmp_path)
    async with local_server(tmp_path, loader, ready=False) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(CROPS)
        assert rejection_of(caught.value).reason == "MODEL_NOT_READY"
        loader.unblocked.set()
        await server.wait_for()


async def test_another_model_opens_the_ports_where_the_default_one_cannot_be_loaded(tmp_path: Path) -> None:
    publish_fake(tmp_path, golden_off_by=0.1)
    publish_fake(tmp_path, "other")
    running = local_server(tmp_path, listen_before_ready=False, ready=False)
    async with asyncio.timeout(30), running as server:
        request = emotion_pb2.ClassifyFacesRequest(packed=packed(3))
        request.model.name = "other"
        assert len((await server.emotion.ClassifyFaces(request)).results) == 1


async def test_a_port_that_is_taken_is_reported_before_a_model_is_loaded(tmp_path: Path) -> None:
    loader = BlockingLoader()
    loader.unblocked.clear()
    publish_fake(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for setting in ("listen", "http_listen"):
            address = {setting: f"127.0.0.1:{taken.getsockname()[1]}"}
            with pytest.raises(ListenError, match=setting.replace("_", "-")):
                async with local_server(tmp_path, loader, **address):
                    pass
    loader.unblocked.set()


async def test_a_kept_connection_gets_an_answer_that_closes_it(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, http_listen="127.0.0.1:0") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.running.http_port)
        request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: close" not in head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        drained = server.running.drain()
        await server.wait_until_gone()
        writer.write(request)
        answer = await reader.read()
        writer.close()

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert await drained
