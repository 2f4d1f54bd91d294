"""Tests TLS, with and without certificates of the callers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.runtime.addresses import ListenError
from support.certificates import make_certificates
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, Stubs, classes_of, eventually, local_server, packed, rejection_of
from support.tiers import detection_tier

if TYPE_CHECKING:
    from pathlib import Path

    from support.local_server import LocalServer

REQUEST = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, and `server` and `client` with `.pem` and `.key`, signed by it."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _settings(certificates: Path, *, mutual: bool) -> dict[str, object]:
    return {
        "tls_cert_file": certificates / "server.pem",
        "tls_key_file": certificates / "server.key",
        "tls_client_ca_file": certificates / "ca.pem" if mutual else None,
        "ready": False,
    }


async def _classify(server: LocalServer, credentials: grpc.ChannelCredentials | None) -> list[int]:
    arguments = () if credentials is None else (credentials,)
    make = grpc.aio.insecure_channel if credentials is None else grpc.aio.secure_channel
    async with make(server.address, *arguments) as channel:
        stubs = Stubs(channel)
        if credentials is not None:
            await stubs.wait_for()
        return classes_of(await stubs.emotion.ClassifyFaces(REQUEST, timeout=20))


def _trusting(certificates: Path, *, known: bool = False) -> grpc.ChannelCredentials:
    authorities = (certificates / "ca.pem").read_bytes()
    if not known:
        return grpc.ssl_channel_credentials(authorities)
    key, chain = (certificates / "client.key").read_bytes(), (certificates / "client.pem").read_bytes()
    return grpc.ssl_channel_credentials(authorities, key, chain)


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_with_tls_a_caller_that_trusts_the_authority_is_answered(
    tmp_path: Path, certificates: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, **_settings(certificates, mutual=False)) as server:
        assert await _classify(server, _trusting(certificates)) == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _classify(server, None)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_with_mutual_tls_only_known_callers_are_answered(
    tmp_path: Path, certificates: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, grpc_server=grpc_server, **_settings(certificates, mutual=True)) as server:
        assert await _classify(server, _trusting(certificates, known=True)) == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _classify(server, _trusting(certificates))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_control_calls_on_their_own_address_speak_tls_with_the_same_files(
    tmp_path: Path, certificates: Path
) -> None:
    publish_fake(tmp_path)
    chosen = _settings(certificates, mutual=False) | {"control_listen": "127.0.0.1:0"}
    async with local_server(tmp_path, **chosen) as server:
        address = f"127.0.0.1:{server.running.control_port}"
        async with grpc.aio.secure_channel(address, _trusting(certificates)) as channel:
            models = Stubs(channel).models
            await eventually(lambda: _has_loaded(models))
            await models.LoadVersion(model_pb2.LoadVersionRequest(version=1), timeout=20)
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Stubs(channel).models.LoadVersion(model_pb2.LoadVersionRequest(version=1), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def _has_loaded(models: Any) -> bool:
    listed = (await models.ListModels(model_pb2.ListModelsRequest(), timeout=20)).models
    return bool(listed and listed[0].serving_version)


async def test_many_long_messages_side_by_side_come_through_tls(tmp_path: Path, certificates: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, **_settings(certificates, mutual=False)) as server:
        async with grpc.aio.secure_channel(server.address, _trusting(certificates)) as channel:
            stubs = Stubs(channel)
            await stubs.wait_for()
            requests = [emotion_pb2.ClassifyFacesRequest(packed=packed(*[kind] * 300)) for kind in range(7)]
            answers = await asyncio.gather(*(stubs.emotion.ClassifyFaces(each, timeout=20) for each in requests))
        assert [classes_of(answer) for answer in answers] == [[kind] * 300 for kind in range(7)]


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("broken", ["tls_cert_file", "tls_key_file", "tls_client_ca_file"])
async def test_a_tls_file_that_is_not_there_is_reported_by_its_path(
    tmp_path: Path, certificates: Path, broken: str, grpc_server: str
) -> None:
    settings = _settings(certificates, mutual=True) | {
        broken: tmp_path / "nowhere.pem",
        "grpc_server": grpc_server,
    }
    with pytest.raises(ListenError, match=r"nowhere\.pem"):
        async with local_server(tmp_path, **settings):
            pass


@pytest.mark.parametrize("broken", ["tls_cert_file", "tls_key_file", "tls_client_ca_file"])
async def test_a_tls_file_that_is_not_what_it_should_be_is_reported_by_its_path(
    tmp_path: Path, certificates: Path, broken: str
) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    settings = _settings(certificates, mutual=True) | {broken: tmp_path / "text.pem"}
    with pytest.raises(ListenError, match=r"text\.pem"):
        async with local_server(tmp_path, **settings):
            pass


async def test_a_key_of_another_certificate_is_reported_as_such(tmp_path: Path, certificates: Path) -> None:
    settings = _settings(certificates, mutual=False) | {"tls_key_file": certificates / "client.key"}
    with pytest.raises(ListenError, match=r"client\.key cannot be used: KEY_VALUES_MISMATCH"):
        async with local_server(tmp_path, **settings):
            pass


async def _is_ready(session: aiohttp.ClientSession, url: str, trust: ssl.SSLContext) -> bool:
    async with session.get(url, ssl=trust) as answer:
        return answer.status == 200


async def test_http_is_https_with_the_same_files(tmp_path: Path, certificates: Path) -> None:
    publish_fake(tmp_path)
    settings = _settings(certificates, mutual=True) | {"http_listen": "127.0.0.1:0"}
    async with local_server(tmp_path, **settings) as server:
        url = f"https://127.0.0.1:{server.running.http_port}/healthz"
        known = ssl.create_default_context(cafile=certificates / "ca.pem")
        known.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        stranger = ssl.create_default_context(cafile=certificates / "ca.pem")
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=known) as answer:
                assert answer.status == 200
            async with asyncio.timeout(60):
                while not await _is_ready(session, url.replace("healthz", "readyz"), known):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            async with session.ws_connect(url.replace("/healthz", "/v1/stream"), ssl=known) as stream:
                await stream.send_json({})
                assert (await stream.receive_json())["type"] == "ready"
            for unwelcome, scheme in ((stranger, "https"), (False, "http")):
                with pytest.raises(aiohttp.ClientError):
                    await session.get(url.replace("https", scheme), ssl=unwelcome)


async def test_https_handshakes_that_do_not_end_leave_room_for_others(tmp_path: Path, certificates: Path) -> None:
    publish_fake(tmp_path)
    settings = _settings(certificates, mutual=False) | {"http_listen": "127.0.0.1:0", "max_http_connections": 8}
    async with local_server(tmp_path, **settings) as server:
        port = server.running.http_port
        known = ssl.create_default_context(cafile=certificates / "ca.pem")

        async def answered() -> bool:
            async with aiohttp.ClientSession() as session:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"https://127.0.0.1:{port}/healthz", ssl=known) as answer:
                        return answer.status == 200
            return False

        for _ in range(12):  # each sends what is no handshake, and is let go of
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.sendall(b"no TLS at all")
        await eventually(answered)


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_detection_tier_trusts_its_model_tier_and_shows_itself(
    tmp_path: Path, certificates: Path, mutual: bool
) -> None:
    publish_fake(tmp_path)
    own = {"upstream_cert_file": certificates / "client.pem", "upstream_key_file": certificates / "client.key"}
    trust = {"upstream_ca_file": certificates / "ca.pem", **(own if mutual else {})}
    async with (
        local_server(tmp_path, **_settings(certificates, mutual=mutual)) as tier,
        detection_tier(tier.address, **trust) as server,
    ):
        assert classes_of(await server.emotion.ClassifyFaces(REQUEST, timeout=20)) == [1, 2]


async def test_a_model_tier_that_a_stranger_vouches_for_is_not_sent_faces(
    tmp_path: Path, certificates: Path
) -> None:
    publish_fake(tmp_path)
    trust = {"upstream_ca_file": certificates / "server.pem"}  # an identity, but of no authority
    async with (
        local_server(tmp_path, **_settings(certificates, mutual=False)) as tier,
        detection_tier(tier.address, **trust, ready=False) as server,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(REQUEST, timeout=20)
        assert rejection_of(caught.value).reason == "UPSTREAM_UNAVAILABLE"
