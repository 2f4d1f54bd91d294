"""Tests fair shares over real connections: the caller that fills the queue is rejected, on any transport."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from support.certificates import make_certificates
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, LocalServer, Stubs, classes_of, local_server, packed, rejection_of
from support.worker_server import callers, metric, worker_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HELD = {
    "max_queue_faces": 8,
    "hold_until_queued": 8,
    "max_faces_per_request": 4,
    "bucket_sizes": (1, 8),
    "metrics_listen": "127.0.0.1:0",
}
"""Nothing runs before eight faces wait, for which there is just room."""


@contextlib.asynccontextmanager
async def connection(server: LocalServer, credentials: Any = None) -> AsyncIterator[Stubs]:
    """Stubs on a connection of their own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        opened = grpc.aio.insecure_channel(server.address, options)
    else:
        opened = grpc.aio.secure_channel(server.address, credentials, options)
    async with opened as channel:
        stubs = Stubs(channel)
        await stubs.wait_for()
        yield stubs


def classify(stubs: Stubs, *classes: int) -> asyncio.Task[Any]:
    """A call that is on its way."""
    request = emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))

    async def answered() -> Any:
        return await stubs.emotion.ClassifyFaces(request, timeout=20)

    return asyncio.ensure_future(answered())


async def rejected(task: asyncio.Task[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await task
    rejection = rejection_of(caught.value)
    assert rejection.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rejection.metadata["retry_safe"] == "true"
    return rejection.metadata["setting"]


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_the_connection_that_fills_the_queue_gives_its_newest_places_to_another(
    tmp_path: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    async with (
        local_server(tmp_path, grpc_server=grpc_server, **HELD) as server,
        connection(server) as hog,
        connection(server) as neighbour,
    ):
        first = classify(hog, 1, 1, 1, 1)
        await wait_for_depth(server, 4)
        second = classify(hog, 2, 2, 2)
        await wait_for_depth(server, 7)

        beside = classify(neighbour, 3, 3, 3)

        assert await rejected(second) == "max_queue_faces"
        last = classify(neighbour, 4)
        assert classes_of(await first) == [1, 1, 1, 1]
        assert classes_of(await beside) == [3, 3, 3]
        assert classes_of(await last) == [4]


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_connections_with_one_certificate_are_one_caller(tmp_path: Path, grpc_server: str) -> None:
    (tmp_path / "certificates").mkdir()
    folder = make_certificates(tmp_path / "certificates")
    publish_fake(tmp_path / "models")
    tls = {
        "tls_cert_file": folder / "server.pem",
        "tls_key_file": folder / "server.key",
        "tls_client_ca_file": folder / "ca.pem",
        "ready": False,
    }
    names = ("ca.pem", "client.key", "client.pem")
    credentials = grpc.ssl_channel_credentials(*((folder / name).read_bytes() for name in names))
    limits = {**HELD, "max_queue_faces_per_caller": 4}
    async with (
        local_server(tmp_path / "models", grpc_server=grpc_server, **limits, **tls) as server,
        connection(server, credentials) as first,
        connection(server, credentials) as second,
    ):
        waiting = classify(first, 1, 1, 1, 1)
        await wait_for_depth(server, 4)

        assert await rejected(classify(second, 2)) == "max_queue_faces_per_caller"
        waiting.cancel()
        await asyncio.wait([waiting])


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_connections_without_certificates_are_callers_of_their_own(tmp_path: Path, grpc_server: str) -> None:
    publish_fake(tmp_path)
    limits = {**HELD, "max_queue_faces_per_caller": 4}
    async with (
        local_server(tmp_path, grpc_server=grpc_server, **limits) as server,
        connection(server) as first,
        connection(server) as second,
    ):
        waiting = classify(first, 1, 1, 1, 1)
        await wait_for_depth(server, 4)
        assert await rejected(classify(first, 2)) == "max_queue_faces_per_caller"

        assert classes_of(await classify(second, 2, 2, 2, 2)) == [2, 2, 2, 2]
        assert classes_of(await waiting) == [1, 1, 1, 1]


async def test_callers_of_worker_processes_are_distinguished_by_the_primary(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    limits = {**HELD, "max_queue_faces_per_caller": 4}
    async with worker_server(tmp_path, **limits) as server, callers(server, 2) as (first, second):
        waiting = classify(first, 1, 1, 1, 1)
        await wait_for_depth(server, 4)
        assert await rejected(classify(first, 2)) == "max_queue_faces_per_caller"

        assert classes_of(await classify(second, 2, 2, 2, 2)) == [2, 2, 2, 2]
        assert classes_of(await waiting) == [1, 1, 1, 1]


async def wait_for_depth(server: LocalServer, faces: int) -> None:
    """Returns when so many faces wait."""
    async with asyncio.timeout(20):
        while await metric(server, "queue_depth_faces", model="fer-nano", version="1") != faces:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
