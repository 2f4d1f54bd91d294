"""Tests the addresses of a server: socket files, and ports that several processes share."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve_client import EmotionClient
from ferserve_server.app.primary_main import running_server
from ferserve_server.backends.fake import FakeLoader
from ferserve_server.config.reading import SettingsError, load_settings
from ferserve_server.config.settings import Settings
from ferserve_server.runtime.addresses import ListenError, ReservedPort
from ferserve_server.services.health import check_health
from support.fake_models import publish_fake
from support.local_server import GRPC_SERVERS, Stubs, classes_of, emotion_pb2, packed

if TYPE_CHECKING:
    from pathlib import Path


def _settings(models: Path, listen: str, **more: object) -> Settings:
    chosen = {"http_listen": "off", "metrics_listen": "off", "default_model": "fer-nano", "vision_threads": 1}
    return Settings.of(model_repo=models, listen=listen, precision="float32", tune="fixed", **(chosen | more))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish_fake(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ferserve.sock"


def _is_socket(path: Path) -> bool:
    return path.is_socket()


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
async def test_a_server_answers_on_a_file_and_takes_it_away_at_the_end(
    models: Path, place: Path, form: str, grpc_server: str
) -> None:
    address = form.format(place)
    async with running_server(_settings(models, address, grpc_server=grpc_server), FakeLoader()) as running:
        assert running.port is None
        assert _is_socket(place)
        async with grpc.aio.insecure_channel(address) as channel:
            stubs = Stubs(channel)
            await stubs.wait_for()
            answer = await stubs.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(3)))
            assert classes_of(answer) == [3]
    assert not _is_socket(place)


async def test_the_socket_that_a_killed_server_left_is_replaced(models: Path, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(place))
    assert _is_socket(place)
    async with running_server(_settings(models, f"unix:{place}"), FakeLoader()):
        assert _is_socket(place)


@pytest.mark.parametrize("flag", ["listen", "control_listen"])
async def test_a_socket_that_another_server_listens_on_is_left_to_it(models: Path, place: Path, flag: str) -> None:
    free = "127.0.0.1:0"
    async with running_server(_settings(models, f"unix:{place}"), FakeLoader()):
        mine = {"listen": free} | {flag: f"unix:{place}"}
        with pytest.raises(ListenError, match="another process listens there") as caught:
            async with running_server(_settings(models, **mine), FakeLoader()):
                pass
        assert f"--{flag.replace('_', '-')}" in str(caught.value)
        async with grpc.aio.insecure_channel(f"unix:{place}") as channel:
            await Stubs(channel).wait_for()


@pytest.mark.parametrize(
    ("name", "why"), [("file", "there is a file"), ("none/x", "no folder"), ("x" * 120, "107 bytes")]
)
async def test_a_path_that_cannot_be_a_socket_is_reported(
    models: Path, tmp_path: Path, name: str, why: str
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ListenError, match=why):
        async with running_server(_settings(models, f"unix:{tmp_path / name}"), FakeLoader()):
            pass
    assert (tmp_path / "file").read_text() == "kept"


async def test_the_client_and_the_health_check_reach_a_socket(models: Path, place: Path) -> None:
    async with running_server(_settings(models, f"unix:{place}"), FakeLoader()):
        async with grpc.aio.insecure_channel(f"unix:{place}") as channel:
            await Stubs(channel).wait_for()

        def ask() -> tuple[bool, int]:
            with EmotionClient(f"unix:{place}") as client:
                found = client.classify(np.zeros((2, 48, 48), np.uint8))
            return check_health(f"unix:{place}"), len(found)

        assert await asyncio.to_thread(ask) == (True, 2)


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "127.0.0.1:99999", "unix:/no/such/folder/x"])
async def test_what_is_no_address_is_reported_with_the_flag(models: Path, address: str, grpc_server: str) -> None:
    with pytest.raises(ListenError, match="--listen"):
        async with running_server(_settings(models, address, grpc_server=grpc_server), FakeLoader()):
            pass


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::]"])
async def test_the_address_of_another_server_is_rejected(models: Path, grpc_server: str, host: str) -> None:
    async with running_server(_settings(models, f"{host}:0", grpc_server=grpc_server), FakeLoader()) as running:
        for other in GRPC_SERVERS:
            with pytest.raises(ListenError, match="--listen"):
                async with running_server(
                    _settings(models, f"{host}:{running.port}", grpc_server=other), FakeLoader()
                ):
                    pass


@pytest.mark.parametrize("grpc_server", GRPC_SERVERS)
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_all_addresses_are_those_of_both_families(models: Path, host: str, grpc_server: str) -> None:
    async with running_server(_settings(models, f"{host}:0", grpc_server=grpc_server), FakeLoader()) as running:
        for name in ("127.0.0.1", *(["[::1]"] if _has_ipv6() else [])):
            async with grpc.aio.insecure_channel(f"{name}:{running.port}") as channel:
                await Stubs(channel).wait_for()


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
        return True


def test_a_file_is_for_one_process_where_grpc_listens_and_for_several_with_the_native_server() -> None:
    wanted = ["--model-repo", "models", "--listen", "unix:/tmp/x", "--processes", "2"]
    assert load_settings(wanted).server.processes == 2
    with pytest.raises(SettingsError, match="for one process with grpc_server grpcio: set grpc_server to native"):
        load_settings([*wanted, "--grpc-server", "grpcio"])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_reserved_port_is_free_for_its_process_and_for_nobody_else(host: str) -> None:
    with ReservedPort(f"{host}:0", "--listen") as reserved:
        assert reserved.address == f"{host}:{reserved.port}"
        with socket.socket() as sharing:
            sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sharing.bind(("127.0.0.1", reserved.port))
            sharing.listen()
            with pytest.raises(ListenError, match="--listen"):
                ReservedPort(reserved.address, "--listen")
            for _ in range(20):  # none of them lands where nobody answers
                with socket.create_connection(("127.0.0.1", reserved.port), timeout=5):
                    sharing.accept()[0].close()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "127.0.0.1:99999", "no.such.host.invalid:1"])
def test_what_is_no_address_cannot_be_reserved(address: str) -> None:
    with pytest.raises(ListenError, match="--listen"):
        ReservedPort(address, "--listen")
