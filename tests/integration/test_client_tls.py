"""Tests certificates: the client against a scripted server that speaks TLS."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve_client import (
    NO_RETRIES,
    AsyncEmotionClient,
    EmotionClient,
    HealthStatus,
    ServerUnavailableError,
    TlsOptions,
)
from support.scripted_server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.scripted_server import ScriptedServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem, signed by itself for the name ferserve.test."""
    folder = tmp_path_factory.mktemp("certificates")
    subject = ["-subj", "/CN=ferserve.test", "-addext", "subjectAltName=DNS:ferserve.test"]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificates: Path) -> Iterator[ScriptedServer]:
    """Asks its clients for a certificate too."""
    key, certificate = (certificates / "key.pem").read_bytes(), (certificates / "cert.pem").read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=certificate, require_client_auth=True
    )
    with serve(credentials) as scripted:
        yield scripted


@pytest.fixture
def tls(certificates: Path) -> TlsOptions:
    return TlsOptions(
        ca_file=certificates / "cert.pem",
        cert_file=certificates / "cert.pem",
        key_file=certificates / "key.pem",
        server_name="ferserve.test",
    )


def test_both_sides_show_their_certificates(server: ScriptedServer, tls: TlsOptions) -> None:
    with EmotionClient(server.address, tls=tls) as client:
        assert client.health() is HealthStatus.SERVING


async def test_the_asyncio_twin_shows_its_certificate_too(server: ScriptedServer, tls: TlsOptions) -> None:
    async with AsyncEmotionClient(server.address, tls=tls) as client:
        assert await client.health() is HealthStatus.SERVING


def test_a_certificate_of_another_name_is_rejected(server: ScriptedServer, certificates: Path) -> None:
    tls = TlsOptions(certificates / "cert.pem", certificates / "cert.pem", certificates / "key.pem")

    with (
        EmotionClient(server.address, tls=tls, retry=NO_RETRIES) as client,
        pytest.raises(ServerUnavailableError, match=r"(?i)handshake failed|verification check failed"),
    ):
        client.health()


def test_a_certificate_without_its_key_is_rejected() -> None:
    with pytest.raises(ValueError, match="go together"):
        TlsOptions(cert_file="client.pem")


def test_a_file_that_is_not_there_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EmotionClient(tls=TlsOptions(ca_file=tmp_path / "ca.pem"))
