"""The express door and the clients that people use: gRPC's own, ours, over TLS, files and several processes."""

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
from ferserve_client import EmotionClient
from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.settings_reading import SettingsError, load_settings
from ferserve_server.transport.addresses import ListenError
from ferserve_server.transport.express.frames import END_STREAM, PREFACE, Setting, write_headers, write_settings
from support.certificates import make_certificates
from support.express import call_headers, h2_peer
from support.fake_models import publish_fake
from support.front_server import front_server, metric
from support.local_server import (
    DEADLINE_S,
    DOORS,
    NOT_SERVING,
    SERVING,
    LocalServer,
    Stubs,
    classes_of,
    eventually,
    local_server,
    packed,
    refusal_of,
)
from support.server_process import run_server

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
    async with asyncio.timeout(60), local_server(models, door="express") as running:
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
    async with local_server(models, door="express", max_message_bytes=request.ByteSize()) as server:
        assert classes_of(await server.emotion.ClassifyFaces(request)) == [5] * 300
        request.packed.pixels += b"x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(request)
        assert refusal_of(caught.value).reason == "MESSAGE_TOO_LARGE"


async def test_the_blocking_clients_are_answered(server: LocalServer) -> None:
    def ask() -> tuple[list[int], int, list[int]]:
        with grpc.insecure_channel(server.express_address) as channel:
            stubs = Stubs(channel)  # type: ignore[arg-type]  # a channel of the other kind
            raw = classes_of(stubs.emotion.ClassifyFaces(_request(6, 0), timeout=20))
        faces = np.zeros((3, 48, 48), np.uint8)
        faces[:, 0, 0] = (2, 4, 1)
        with EmotionClient(server.express_address) as client:
            found = client.classify(faces)
            stream = [len(answer.predictions) for answer in client.classify_stream(iter([faces, faces[:1]]))]
        return raw, len(found), stream

    raw, found, stream = await asyncio.to_thread(ask)
    assert (raw, found, stream) == ([6, 0], 3, [3, 1])


async def test_health_follows_the_drain_and_knows_no_strangers(server: LocalServer) -> None:
    async with grpc.aio.insecure_channel(server.express_address) as channel:
        stubs = Stubs(channel)
        assert await stubs.state("ferserve.v1.EmotionService") == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.state("no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("door", DOORS)
async def test_calls_are_counted_alike_at_both_doors(models: Path, door: str) -> None:
    settings = {"metrics_listen": "127.0.0.1:0", "door": door}
    async with local_server(models, **settings) as server:
        await server.emotion.ClassifyFaces(_request(1))
        for refused in (_request(), emotion_pb2.ClassifyFacesRequest(packed=packed(1), priority=9)):
            with pytest.raises(grpc.aio.AioRpcError):
                await server.emotion.ClassifyFaces(refused)
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
    settings = {"metrics_listen": "127.0.0.1:0", "door": "express", "hold_until_queued": 4, "max_queue_faces": 4}
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


async def test_a_drain_answers_what_was_taken_refuses_the_rest_and_lets_go(models: Path) -> None:
    gate = threading.Event()
    gate.set()
    settings = {"door": "express", "inline_ms": 0, "metrics_listen": "127.0.0.1:0"}
    async with asyncio.timeout(60), local_server(models, _GatedLoader(gate), **settings) as server:
        gate.clear()
        async with h2_peer(server.running.express_port or 0) as peer:
            waiting = peer.call(_request(1).SerializeToString())
            stream = server.emotion.ClassifyStream()
            await stream.write(emotion_pb2.ClassifyStreamRequest(sequence_id=4, faces=packed(2)))
            await peer.flush()
            await eventually(lambda: _both_taken(server))
            drained = server.running.drain()
            await server.wait_for(NOT_SERVING)
            refused = await peer.answer(peer.call(_request(1).SerializeToString()))
            assert (refused.status, "draining" in refused.headers["grpc-message"]) == ("14", True)
            assert not drained.done()
            gate.set()
            assert (await peer.answer(waiting)).status == "0"
            assert (await stream.read()).sequence_id == 4
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert refusal_of(caught.value).metadata == {"last_sequence_id": "4"}
            assert await drained
            await peer.until(lambda: peer.closed)
            assert peer.gone == 0


async def _both_taken(server: LocalServer) -> bool:
    methods = ("ClassifyFaces", "ClassifyStream")
    return [await metric(server, "requests_in_progress", method=method) for method in methods] == [1, 1]


class _GatedLoader(FakeLoader):
    """Its versions answer while the gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        return FakeServable(servable_id, description, before_predict=lambda _: self._gate.wait(DEADLINE_S))


def _tls(certificates: Path, *, mutual: bool) -> dict[str, object]:
    return {
        "tls_cert_file": certificates / "server.pem",
        "tls_key_file": certificates / "server.key",
        "tls_client_ca_file": certificates / "ca.pem" if mutual else None,
        "express_listen": "127.0.0.1:0",
        "ready": False,
    }


@pytest.mark.parametrize("mutual", [False, True])
async def test_with_tls_only_those_who_may_are_answered(
    models: Path, tmp_path_factory: pytest.TempPathFactory, mutual: bool
) -> None:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    authorities = (certificates / "ca.pem").read_bytes()
    known = grpc.ssl_channel_credentials(
        authorities, (certificates / "client.key").read_bytes(), (certificates / "client.pem").read_bytes()
    )
    async with local_server(models, **_tls(certificates, mutual=mutual)) as server:
        async with grpc.aio.secure_channel(server.express_address, known) as channel:
            await Stubs(channel).wait_for()
            answers = await asyncio.gather(
                *(Stubs(channel).emotion.ClassifyFaces(_request(*[kind] * 300), timeout=20) for kind in range(7))
            )
            assert [classes_of(answer) for answer in answers] == [[kind] * 300 for kind in range(7)]
        unwelcome = [grpc.aio.insecure_channel(server.express_address)]
        if mutual:
            stranger = grpc.ssl_channel_credentials(authorities)
            unwelcome.append(grpc.aio.secure_channel(server.express_address, stranger))
        for channel in unwelcome:
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await Stubs(channel).emotion.ClassifyFaces(_request(1), timeout=20)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_it_answers_on_a_file_and_takes_it_away_at_the_end(models: Path, tmp_path: Path) -> None:
    place = tmp_path / "express.sock"
    async with local_server(models, express_listen=f"unix:{place}") as server:
        assert server.running.express_port is None
        async with grpc.aio.insecure_channel(f"unix:{place}") as channel:
            assert classes_of(await Stubs(channel).emotion.ClassifyFaces(_request(3))) == [3]
    assert not place.exists()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "127.0.0.1:99999", "unix:/no/such/folder/x"])
async def test_what_is_no_address_is_told_with_the_flag(models: Path, address: str) -> None:
    with pytest.raises(ListenError, match="--express-listen"):
        async with local_server(models, express_listen=address):
            pass


async def test_the_address_of_another_server_is_refused(models: Path, server: LocalServer) -> None:
    with pytest.raises(ListenError, match="--express-listen"):
        async with local_server(models, express_listen=server.express_address):
            pass


def test_a_file_is_for_one_process() -> None:
    with pytest.raises(SettingsError, match="express_listen is for one process"):
        load_settings(["--express-listen", "unix:/tmp/x", "--processes", "2"])


async def test_front_processes_open_the_door_too(models: Path) -> None:
    async with front_server(models, FakeLoader(), express_listen="127.0.0.1:0") as server:
        options = [("grpc.use_local_subchannel_pool", 1)]
        for kind in range(6):
            async with grpc.aio.insecure_channel(server.express_address, options) as channel:
                stubs = Stubs(channel)
                await stubs.wait_for()
                assert classes_of(await stubs.emotion.ClassifyFaces(_request(kind), timeout=20)) == [kind]
        assert await server.running.drain()


async def test_old_connections_are_asked_to_go_and_no_call_is_lost(models: Path) -> None:
    settings = {"door": "express", "max_connection_age_s": 0.5}
    async with local_server(models, **settings) as server, h2_peer(server.running.express_port or 0) as peer:
        leaving = asyncio.ensure_future(peer.until(lambda: False))
        answered = 0
        while not leaving.done():  # other callers' connections go meanwhile, too
            answer = await server.emotion.ClassifyFaces(_request(answered % 7))
            assert classes_of(answer) == [answered % 7]
            answered += 1
        await leaving
        assert (peer.gone, peer.closed) == (0, True)


@pytest.fixture(scope="module")
def express_process(tiny_model_repo: Path) -> Iterator[tuple[ServerProcess, int]]:
    """A real server on its own event loop, which is not that of the tests, and the port of its express door."""
    with run_server(tiny_model_repo, "--express-listen", "127.0.0.1:0") as server:
        yield server, int(server.wait_for_event("listening")["express_port"])
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_real_server_says_the_same_at_both_doors(express_process: tuple[ServerProcess, int]) -> None:
    server, port = express_process
    faces = np.random.default_rng(0).integers(0, 255, (40, 48, 48), np.uint8)
    with EmotionClient(f"127.0.0.1:{port}") as client, EmotionClient(server.address) as main:
        here, there = client.classify(faces), main.classify(faces)
        assert here.items == there.items
        assert len(list(client.classify_stream(faces[at : at + 2] for at in range(0, 40, 2)))) == 20


def test_a_peer_that_never_reads_is_held_back_and_others_are_answered(
    express_process: tuple[ServerProcess, int],
) -> None:
    _, port = express_process
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stuck:
        stuck.sendall(PREFACE + write_settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}))
        assert _sent_until_blocked(stuck) < 64 * 2**20
        with EmotionClient(f"127.0.0.1:{port}") as client:
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
