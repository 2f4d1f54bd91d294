"""Tests roles, files that change, and probes without a certificate, on real sockets (faults, items 22, 26, 27)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.app import healthcheck
from ferserve_server.http import listener
from support.certificates import make_certificates
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, LocalServer, Stubs, local_server, rejection_of

if TYPE_CHECKING:
    from pathlib import Path

LOAD = model_pb2.LoadVersionRequest(name="fer-nano", version=1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"), names={"operator": "DNS:operator"})


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("other"))


def _tls(certificates: Path, *, mutual: bool = True) -> dict[str, object]:
    return {
        "tls_cert_file": certificates / "server.pem",
        "tls_key_file": certificates / "server.key",
        "tls_client_ca_file": certificates / "ca.pem" if mutual else None,
        "ready": False,
    }


def _as(certificates: Path, name: str, authority: Path | None = None) -> grpc.ChannelCredentials:
    trusted = ((authority or certificates) / "ca.pem").read_bytes()
    key, chain = (certificates / f"{name}.key").read_bytes(), (certificates / f"{name}.pem").read_bytes()
    return grpc.ssl_channel_credentials(trusted, key, chain)


async def _load(address: str, credentials: grpc.ChannelCredentials) -> str:
    """Makes a control call; returns the reason of its rejection, "" if it is carried out."""
    async with grpc.aio.secure_channel(address, credentials) as channel:
        try:
            await Stubs(channel).models.LoadVersion(LOAD, timeout=20)
        except grpc.aio.AioRpcError as error:
            return rejection_of(error).reason or error.code().name
    return ""


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_only_named_certificates_make_control_calls(
    tmp_path: Path, certificates: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path)
    chosen = _tls(certificates) | {"control_on_main": True, "control_names": ("operator",)}
    async with local_server(tmp_path, grpc_server=grpc_server, **chosen) as server:
        assert await _load(server.address, _as(certificates, "operator")) == ""
        assert await _load(server.address, _as(certificates, "client")) == "CONTROL_FORBIDDEN"


async def test_a_second_authority_is_for_control_calls_alone(
    tmp_path: Path, certificates: Path, other_authority: Path
) -> None:
    publish_fake(tmp_path)
    own = {"control_listen": "127.0.0.1:0", "control_client_ca_file": other_authority / "ca.pem"}
    async with local_server(tmp_path, **_tls(certificates) | own) as server:
        control = f"127.0.0.1:{server.running.control_port}"
        assert await _load(control, _as(other_authority, "client", certificates)) == ""
        assert await _load(control, _as(certificates, "client")) == "UNAVAILABLE"
        assert await _load(server.address, _as(other_authority, "client", certificates)) == "UNAVAILABLE"


async def _probe(port: int | None, path: str) -> int:
    def ask() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    return await asyncio.to_thread(ask)


async def test_probes_and_metrics_need_no_certificate(tmp_path: Path, certificates: Path) -> None:
    publish_fake(tmp_path)
    chosen = _tls(certificates) | {"metrics_listen": "127.0.0.1:0", "lame_duck_s": 1.0, "ready": True}
    async with local_server(tmp_path, **chosen | {"ready": False}) as server:
        port = server.running.metrics_port
        async with grpc.aio.secure_channel(server.address, _as(certificates, "client")) as channel:
            await Stubs(channel).wait_for()
        assert [await _probe(port, path) for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        drained = server.running.drain()
        assert await _probe(port, "/readyz") == 503
        assert await _probe(port, "/healthz") == 200
        assert await drained


async def _shown_certificate(port: int | None) -> str:
    return await asyncio.to_thread(lambda: ssl.get_server_certificate(("127.0.0.1", port or 0)))


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
async def test_new_connections_show_a_changed_certificate(
    tmp_path: Path, certificates: Path, grpc_server: str
) -> None:
    publish_fake(tmp_path / "models")
    files = {"tls_cert_file": tmp_path / "tls.pem", "tls_key_file": tmp_path / "tls.key"}

    def put(name: str) -> bytes:
        for kind in ("pem", "key"):
            (tmp_path / f"tls.{kind}").write_bytes((certificates / f"{name}.{kind}").read_bytes())
        return (certificates / f"{name}.pem").read_bytes()

    put("server")
    chosen: dict[str, Any] = files | {"http_listen": "127.0.0.1:0", "ready": False}
    async with local_server(tmp_path / "models", grpc_server=grpc_server, **chosen) as server:
        ports = (server.running.port, server.running.http_port)
        before = [await _shown_certificate(port) for port in ports]
        put("client")
        server.running.reload()
        after = [await _shown_certificate(port) for port in ports]
        assert len(set(before)) == len(set(after)) == 1
        assert before[0] != after[0]


async def test_a_https_handshake_that_never_comes_is_cut(
    tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listener._HANDSHAKE_S == 10
    monkeypatch.setattr(listener, "_HANDSHAKE_S", 0.2)
    publish_fake(tmp_path)
    chosen = _tls(certificates) | {"http_listen": "127.0.0.1:0"}
    async with asyncio.timeout(60), local_server(tmp_path, **chosen) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.running.http_port)
        assert await reader.read() == b""
        writer.close()


async def test_wrong_tokens_are_counted_and_slowed_down(tmp_path: Path) -> None:
    publish_fake(tmp_path / "models")
    (tmp_path / "token").write_text("a token that is long enough")
    chosen = {
        "control_on_main": True,
        "control_token_file": tmp_path / "token",
        "metrics_listen": "127.0.0.1:0",
    }
    async with local_server(tmp_path / "models", **chosen) as server:
        reasons = [await _guess(server) for _ in range(7)]
        assert reasons == ["CONTROL_UNAUTHENTICATED"] * 5 + ["CONTROL_THROTTLED"] * 2
        url = f"http://127.0.0.1:{server.running.metrics_port}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=20).read().decode())
        assert 'ferserve_control_rejections_total{reason="CONTROL_UNAUTHENTICATED"} 5.0' in page
        assert 'ferserve_control_rejections_total{reason="CONTROL_THROTTLED"} 2.0' in page


async def _guess(server: LocalServer) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.models.LoadVersion(LOAD, metadata=(("authorization", "Bearer guess"),), timeout=20)
    return rejection_of(caught.value).reason


# Item 22: the health check command


async def _check(*arguments: str, **variables: str) -> int:
    """Runs the command as a container does, behind a proxy that answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"), address)
        command = [sys.executable, "-m", healthcheck.__name__, *arguments]
        environment = {"PATH": "/usr/bin:/bin", **proxies, **variables}
        done = await asyncio.to_thread(
            lambda: subprocess.run(command, env=environment, check=False, timeout=120, capture_output=True)
        )
    return done.returncode


async def test_the_health_check_works_with_mutual_tls_and_behind_a_proxy(
    tmp_path: Path, certificates: Path
) -> None:
    publish_fake(tmp_path)
    chosen = _tls(certificates) | {"metrics_listen": "127.0.0.1:0"}
    async with local_server(tmp_path, **chosen) as server:
        files = {
            "FERSERVE_TLS_CERT_FILE": str(certificates / "server.pem"),
            "FERSERVE_TLS_KEY_FILE": str(certificates / "server.key"),
        }
        own = {"FERSERVE_METRICS_LISTEN": f"0.0.0.0:{server.running.metrics_port}", **files}
        shown = ("--cert-file", str(certificates / "client.pem"), "--key-file", str(certificates / "client.key"))
        explicit = (server.address, "--ca-file", str(certificates / "ca.pem"), *shown)
        results = await asyncio.gather(
            _check(**own),
            _check(*explicit),
            _check(server.address),  # without TLS
            _check(FERSERVE_METRICS_LISTEN="127.0.0.1:1"),
            _check(FERSERVE_METRICS_LISTEN="off", **files),  # the authorities are missing
        )
        assert results == [0, 0, 1, 1, 1]


async def test_the_health_check_without_tls_is_not_sent_to_a_proxy(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path) as server:
        assert await _check(FERSERVE_METRICS_LISTEN="off", FERSERVE_LISTEN=server.address) == 0
