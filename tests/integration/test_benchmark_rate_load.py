"""Tests the load at a fixed rate against real servers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from load.measurements import Measurements
from load.plan import Part
from load.rate_callers import call_at_rate

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.backends.fake import FakeLoader
from support.fake_models import publish_fake
from support.local_server import DEADLINE_S, GRPC_SERVERS, eventually, local_server, packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PATH = "/ferserve.v1.EmotionService/ClassifyFaces"


def _part(faces: face_pb2.PackedFaces, **request: object) -> Part:
    message = emotion_pb2.ClassifyFacesRequest(packed=faces, **request).SerializeToString()
    return Part("load", "unary", PATH, message, faces.face_count, connections=2, rate=100, timeout_s=30.0)


@contextlib.asynccontextmanager
async def _sending(address: str, part: Part) -> AsyncIterator[Measurements]:
    measurements = Measurements()
    sending = asyncio.create_task(call_at_rate(address, part, measurements))
    try:
        yield measurements
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _codes(address: str, part: Part, count: int = 20) -> set[str]:
    """The codes of the first calls that ended; "" is an answer."""
    async with _sending(address, part) as measurements:
        await _until(lambda: len(measurements.codes) >= count)
        return set(measurements.codes)


async def _until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_calls_are_answered_and_rejected_as_by_any_client(tmp_path: Path, grpc_server: str) -> None:
    """One face, as many as exceed every window that a server begins with, and a model that there is not."""
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server) as server:
        assert await _codes(server.address, _part(packed(3))) == {""}
        assert await _codes(server.address, replace(_part(packed(*([3] * 200))), rate=10)) == {""}
        unknown = _part(packed(3), model={"name": "nobody"})
        assert await _codes(server.address, unknown) == {"NOT_FOUND"}


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_what_cannot_be_answered_in_time_is_rejected_at_once_beside_what_can(
    tmp_path: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    loader = FakeLoader(batch_s=0.2)
    async with local_server(tmp_path, loader, grpc_server=grpc_server, bucket_sizes=(1,)) as server:
        part = replace(_part(packed(3)), timeout_s=1.0)
        async with _sending(server.address, part) as measurements:
            await _until(lambda: {"", "DEADLINE_EXCEEDED"} <= set(measurements.codes))


async def test_a_server_that_says_nothing_lets_calls_expire() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(2**16):
                pass
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(DEADLINE_S), listener:
        assert await _codes(address, replace(_part(packed(3)), timeout_s=0.05)) == {"EXPIRED"}


async def test_a_server_that_hangs_up_ends_the_load() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)
        writer.close()

    listener = await asyncio.start_server(rude, "127.0.0.1", 0)
    address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(DEADLINE_S), listener:
        with pytest.raises(OSError, match=r"closed|reset|Broken"):
            await call_at_rate(address, _part(packed(3)), Measurements())
