"""Tests the native server with common clients: gRPC's own, ferserve's, over TLS, files and several processes."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import threading
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from hpack import Encoder

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_client import EmotionClient
from ferserve_server.backends.fake import FakeLoader, FakeServable
from support.fake_models import publish_fake
from support.http2 import call_headers, h2_peer
from support.http2_frames import END_STREAM, PREFACE, Setting, write_headers, write_settings
from support.local_server import (
    DEADLINE_S,
    GRPC_SERVERS,
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
from support.server_process import run_server
from support.worker_server import metric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription, ServableId
    from support.server_process import ServerProcess


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_fake(tmp_path / "models", version=3)
    return tmp_path / "models"


@pytest.fixture
async def server(models: Path) -> AsyncIterator[LocalServer]:
    async with asyncio.timeout(60), local_server(models) as running:
        yield running


def _request(*classes: int) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))


async def test_more_callers_than_streams_share_a_connection(server: LocalServer) -> None:
    calls = [server.emotion.ClassifyFaces(_request(number % 7), timeout=60) for number in range(700)]
    answers = await asyncio.gather(*calls)
    assert [classes_of(answer) for answer in answers] == [[number % 7] for number in range(700)]


@pytest.mark.parametrize("face_count", [128, 512])
async def test_calls_with_many_faces_side_by_side(server: LocalServer, face_count: int) -> None:
    calls = [server.emotion.ClassifyFaces(_request(*[kind] * face_count), timeout=60) for kind in range(7)]
    assert [classes_of(answer) for answer in await asyncio.gather(*calls)] == [[k] * face_count for k in range(7)]


async def test_a_message_of_the_longest_length_is_taken_and_one_byte_more_is_not(models: Path) -> None:
    request = _request(*[5] * 300)
    async with local_server(models, max_message_bytes=request.ByteSize()) as server:
        assert classes_of(await server.emotion.ClassifyFaces(request)) == [5] * 300
        request.packed.pixels += b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(request)
        assert rejection_of(caught.value).reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_callers_may_compress(server: LocalServer, kind: grpc.Compression) -> None:
    request = _request(*[4] * 100)
    assert classes_of(await server.emotion.ClassifyFaces(request, compression=kind)) == [4] * 100
    messages = [emotion_pb2.ClassifyStreamRequest(sequence_id=at, faces=packed(*[at] * 100)) for at in range(5)]
    stream = server.emotion.ClassifyStream(iter(messages), compression=kind)
    assert [answer.sequence_id async for answer in stream] == list(range(5))
    spec = model_pb2.ListModelsRequest()
    assert (await server.models.ListModels(spec, compression=kind)).models[0].name == "fer-nano"


async def test_the_blocking_clients_are_answered(server: LocalServer) -> None:
    def ask() -> tuple[list[int], int, list[int]]:
        with grpc.insecure_channel(server.address) as channel:
            stubs = Stubs(channel)  # type: ignore[arg-type]  # a channel of the other kind
            raw = classes_of(stubs.emotion.ClassifyFaces(_request(6, 0), timeout=20))
        faces = np.zeros((3, 48, 48), np.uint8)
        faces[:, 0, 0] = (2, 4, 1)
        with EmotionClient(server.address) as client:
            found = client.classify(faces)
            stream = [len(answer.predictions) for answer in client.classify_stream(iter([faces, faces[:1]]))]
        return raw, len(found), stream

    raw, found, stream = await asyncio.to_thread(ask)
    assert (raw, found, stream) == ([6, 0], 3, [3, 1])


async def test_health_follows_the_drain_and_knows_no_strangers(server: LocalServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        assert await stubs.state("ferserve.v1.EmotionService") == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.state("no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        drained = server.running.drain()
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        assert await drained


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_calls_are_counted_alike_at_both_servers(models: Path, grpc_server: str) -> None:
    settings = {"metrics_listen": "127.0.0.1:0", "grpc_server": grpc_server}
    async with local_server(models, **settings) as server:
        await server.emotion.ClassifyFaces(_request(1))
        for rejected in (_request(), emotion_pb2.ClassifyFacesRequest(packed=packed(1), priority=9)):
            with pytest.raises(grpc.aio.AioRpcError):
                await server.emotion.ClassifyFaces(rejected)
        stream = iter([emotion_pb2.ClassifyStreamRequest(sequence_id=at, faces=packed(1)) for at in range(3)])
        assert len([answer async for answer in server.emotion.ClassifyStream(stream)]) == 3
        names = [("ClassifyFaces", "OK"), ("ClassifyFaces", "INVALID_ARGUMENT"), ("ClassifyStream", "OK")]
        found = [await metric(server, "requests_total", method=method, code=code) for method, code in names]
        assert found == [1, 2, 1]
        answers = await metric(server, "stream_answers_total", method="ClassifyStream", outcome="result")
        assert answers == 3
        for method in ("ClassifyFaces", "ClassifyStream"):
            assert await metric(server, "requests_in_progress", method=method) == 0


async def test_a_caller_who_gives_up_is_counted_and_leaves(models: Path) -> None:
    settings = {"metrics_listen": "127.0.0.1:0", "hold_until_queued": 4, "max_queue_faces": 4}
    async with local_server(models, max_faces_per_request=4, **settings) as server:
        call = server.emotion.ClassifyFaces(_request(1, 1))
        stream = server.emotion.ClassifyStream()
        await stream.write(emotion_pb2.ClassifyStreamRequest(sequence_id=0, faces=packed(2)))
        await eventually(lambda: _both_taken(server))
        call.cancel()
        stream.cancel()

        async def both_counted() -> bool:
            return [
                await metric(server, "requests_total", method=method, code="CANCELLED")
                for method in ("ClassifyFaces", "ClassifyStream")
            ] == [1, 1]

        await eventually(both_counted)
        # All there is room for.
        assert classes_of(await server.emotion.ClassifyFaces(_request(1, 2, 3, 4))) == [1, 2, 3, 4]


async def test_a_drain_answers_what_was_taken_and_lets_go(models: Path) -> None:
    unblocked = threading.Event()
    unblocked.set()
    settings = {"metrics_listen": "127.0.0.1:0"}
    async with asyncio.timeout(60), local_server(models, _BlockingLoader(unblocked), **settings) as server:
        unblocked.clear()
        async with h2_peer(server.running.port or 0) as peer:
            waiting = server.emotion.ClassifyFaces(_request(1))
            stream = server.emotion.ClassifyStream()
            await stream.write(emotion_pb2.ClassifyStreamRequest(sequence_id=4, faces=packed(2)))
            await eventually(lambda: _both_taken(server))
            drained = server.running.drain()
            await server.wait_for(NOT_SERVING)
            assert not drained.done()
            unblocked.set()
            assert classes_of(await waiting) == [1]
            assert (await stream.read()).sequence_id == 4
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert rejection_of(caught.value).metadata["last_sequence_id"] == "4"
            await peer.until(lambda: peer.closed)
            assert peer.gone == 0
            assert await drained


async def _both_taken(server: LocalServer) -> bool:
    methods = ("ClassifyFaces", "ClassifyStream")
    return [await metric(server, "requests_in_progress", method=method) for method in methods] == [1, 1]


class _BlockingLoader(FakeLoader):
    """Loads versions that answer while `unblocked` is set."""

    def __init__(self, unblocked: threading.Event) -> None:
        super().__init__()
        self._unblocked = unblocked

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        return FakeServable(servable_id, description, before_predict=lambda _: self._unblocked.wait(DEADLINE_S))


async def test_old_connections_are_asked_to_go_and_no_call_is_lost(models: Path) -> None:
    settings = {"max_connection_age_s": 0.5}
    async with local_server(models, **settings) as server, h2_peer(server.running.port or 0) as peer:
        leaving = asyncio.ensure_future(peer.until(lambda: False))
        answered = 0
        while not leaving.done():  # other callers' connections go meanwhile, too
            answer = await server.emotion.ClassifyFaces(_request(answered % 7))
            assert classes_of(answer) == [answered % 7]
            answered += 1
        await leaving
        assert (peer.gone, peer.closed) == (0, True)


@pytest.fixture(scope="module")
def real_server(tiny_model_repo: Path) -> Iterator[ServerProcess]:
    """A server on its own event loop, which is not that of the tests."""
    with run_server(tiny_model_repo) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_peer_that_never_reads_is_held_back_and_others_are_answered(real_server: ServerProcess) -> None:
    host, _, port = real_server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as stuck:
        stuck.sendall(PREFACE + write_settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}))
        assert _sent_until_blocked(stuck) < 64 * 2**20
        with EmotionClient(real_server.address) as client:
            assert len(client.classify(np.zeros((2, 48, 48), np.uint8))) == 2


def _sent_until_blocked(peer: socket.socket) -> int:
    """Sends calls of no method, whose answers are longer than they are, until they are taken no more."""
    encoder, sent = Encoder(), 0
    peer.sendall(write_headers(1, encoder.encode(call_headers("/x/Y")), END_STREAM))
    block = encoder.encode(call_headers("/x/Y"))  # as it is from the second call on
    for first in itertools.count(3, 2000):
        data = b"".join(write_headers(first + 2 * at, block, END_STREAM) for at in range(1000))
        try:
            peer.sendall(data)
        except TimeoutError:
            return sent
        sent += len(data)
    raise AssertionError
