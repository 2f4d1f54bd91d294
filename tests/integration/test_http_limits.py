"""Tests the HTTP and metrics ports under bad requests and idle connections."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest

from ferserve_server.app.primary_main import running_server
from ferserve_server.backends.fake import FakeLoader
from ferserve_server.config.settings import Settings
from ferserve_server.http import health
from ferserve_server.http.page_files import SECURITY_HEADERS
from ferserve_server.runtime.addresses import ListenError
from ferserve_server.services.control_access import ControlExposedError
from ferserve_server.telemetry import exposition
from support.fake_models import publish_fake
from support.http import http_server
from support.local_server import eventually, local_server
from support.pictures import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from support.http import HttpServer

FACE = encode(np.full((48, 48), 3, np.uint8), "PNG")
WHOLE = "/v1/analyze?detect=false"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


def _json_of(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return int(head.split()[1]), json.loads(body)


async def test_a_header_of_10_kb_is_fine_and_a_larger_one_is_431_in_json(server: HttpServer) -> None:
    assert (await server.ask(WHOLE, FACE, headers={"X-A": "a" * 10_000})).status == 200
    assert (await server.ask(WHOLE, FACE, headers={"X-A": "a" * 20_000})).rejection == (431, "METADATA_TOO_LARGE")
    for line in (b"Cookie: secret" + b"a" * 200_000, b"".join(b"X-%d: a\r\n" % number for number in range(500))):
        answer = await server.raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        status, document = _json_of(answer)
        assert (status, document["reason"]) == (431, "METADATA_TOO_LARGE")
        assert "max_metadata_bytes" in document["error"]
        assert b"secret" not in answer


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "x"])
async def test_content_encodings_that_are_not_taken_are_415_with_those_that_are(
    server: HttpServer, encoding: str
) -> None:
    answer = await server.ask(WHOLE, FACE, headers={"Content-Encoding": encoding})
    assert answer.rejection == (415, "CONTENT_ENCODING_UNSUPPORTED")
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 0\r\n\r\n", 417),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
async def test_errors_of_the_http_library_are_ours(server: HttpServer, request_bytes: bytes, status: int) -> None:
    found, document = _json_of(await server.raw(request_bytes))
    assert found == status
    assert document["reason"]
    assert document["error"]


async def test_a_probe_that_fails_is_logged_and_answered(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    monkeypatch.setattr(health, "why_not_ready", fail)
    answer = await server.ask("/readyz")
    assert answer.rejection == (500, "INTERNAL")
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in answer.json["error"]


@contextlib.contextmanager
def _idle(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that send nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]


async def test_idle_http_connections_are_bounded_and_metrics_say_how_many_were_turned_away(tmp_path: Path) -> None:
    async with http_server(
        tmp_path, max_http_connections=20, max_http_connections_per_address=10, repository_poll_s=0
    ) as server:
        port = server.server.running.http_port
        assert port is not None
        with _idle(port, 40):
            await server.wait_for_metric(30, "connections_rejected_total", port="http")
            assert await server.metric("connections", port="http") == 10
            with pytest.raises(aiohttp.ClientError):
                await server.ask("/healthz")

        async def free() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                return (await server.ask("/healthz")).status == 200
            return False

        await eventually(free)


async def test_idle_metrics_connections_hold_no_threads_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition._Handler, "timeout", 0.5)
    async with http_server(tmp_path) as server:
        before = threading.active_count()
        with _idle(int(server.metrics_url.split(":")[2].split("/")[0]), 100):

            async def scraped() -> bool:
                assert threading.active_count() - before <= 40  # two for each of 16 connections
                with contextlib.suppress(aiohttp.ClientError):  # turned away while the others are not timed out
                    return await server.metric("connections_rejected_total", port="metrics") >= 84
                return False

            await eventually(scraped)


async def test_metrics_are_answered_on_all_addresses_and_know_what_is_no_address(tmp_path: Path) -> None:
    async with (
        http_server(tmp_path, metrics_listen="localhost:0") as server,
        server.session.get(server.metrics_url.replace("127.0.0.1", "localhost")) as answer,
    ):
        assert answer.status == 200
        assert "ferserve_requests_total" in await answer.text()
    for address in ("nowhere", "127.0.0.1:port", "127.0.0.1:70000", "unix:/tmp/x.sock"):
        with pytest.raises(ListenError, match="--metrics-listen"):
            async with local_server(tmp_path, metrics_listen=address, ready=False):
                pass


async def test_http_answers_on_a_socket_file(tmp_path: Path) -> None:
    place = tmp_path / "http.sock"
    publish_fake(tmp_path / "models")
    async with (
        local_server(tmp_path / "models", http_listen=f"unix:{place}"),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(place))) as session,
        session.get("http://x/healthz") as answer,
    ):
        assert answer.status == 200
    assert not place.exists()


async def test_http_and_metrics_follow_the_host_of_listen(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, listen="127.0.0.1:0", http_listen="0", metrics_listen="0") as server:
        for port in (server.running.http_port, server.running.metrics_port):
            socket.create_connection(("127.0.0.1", port)).close()
            with pytest.raises(OSError):  # noqa: PT011 - rejected: it listens on 127.0.0.1 alone
                socket.create_connection(("127.0.0.2", port), timeout=2)


@pytest.mark.parametrize(
    ("settings", "exposed"),
    [
        ({"control_listen": "0.0.0.0:0"}, True),
        ({"control_listen": ":0"}, True),
        ({"control_on_main": True, "listen": "0.0.0.0:0"}, True),
        ({"control_on_main": True, "http_listen": "0.0.0.0:0"}, True),
        ({"control_listen": "0.0.0.0:0", "control_insecure": True}, False),
        ({"control_listen": "127.0.0.1:0"}, False),
        ({"control_listen": "localhost:0", "control_on_main": True}, False),
        ({"control_listen": "0.0.0.0:0", "control_token_file": "token"}, False),
    ],
)
async def test_control_calls_are_not_open_to_other_machines_by_accident(
    tmp_path: Path, settings: dict[str, Any], exposed: bool
) -> None:
    publish_fake(tmp_path / "models")
    (tmp_path / "token").write_text("secret")
    if "control_token_file" in settings:
        settings = settings | {"control_token_file": tmp_path / "token"}
    chosen = {"listen": "127.0.0.1:0", "http_listen": "off", "metrics_listen": "off", "default_model": "fer-nano"}
    wanted = Settings.of(model_repo=tmp_path / "models", vision_threads=1, **(chosen | settings))
    if exposed:
        with pytest.raises(ControlExposedError, match="--control-token-file"):
            async with running_server(wanted, FakeLoader()):
                pass
    else:
        async with running_server(wanted, FakeLoader()):
            pass


@pytest.mark.parametrize(
    ("headers", "rejection"),
    [
        ({"Content-Type": "text/plain"}, (415, "CONTENT_TYPE_UNSUPPORTED")),
        ({"Content-Type": "application/x-www-form-urlencoded"}, (415, "CONTENT_TYPE_UNSUPPORTED")),
        ({"Content-Type": "application/json", "Origin": "http://evil.example"}, (403, "ORIGIN_NOT_ALLOWED")),
        ({"Content-Type": "application/json", "Host": "evil.example"}, (403, "ORIGIN_NOT_ALLOWED")),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, (403, "ORIGIN_NOT_ALLOWED")),
    ],
)
@pytest.mark.parametrize("what", ["load", "unload"])
async def test_a_page_of_another_origin_makes_no_control_calls(
    tmp_path: Path, what: str, headers: dict[str, str], rejection: tuple[int, str]
) -> None:
    async with http_server(tmp_path, control_on_main=True) as server:
        path = f"/v2/repository/models/fer-nano/{what}"
        body = b'{"parameters": {"version": 1}}'
        assert (await server.ask(path, body, headers=headers)).rejection == rejection
        json_type = {"Content-Type": "application/json"}
        assert (await server.ask("/v2/repository/models/fer-nano/load", body, headers=json_type)).status == 200


async def test_a_control_call_without_a_content_type_is_taken_from_programs(tmp_path: Path) -> None:
    async with http_server(tmp_path, control_on_main=True) as server:
        port = server.server.running.http_port
        head = (
            b"POST /v2/repository/models/fer-nano/load HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n"
            % port
        )
        body = b'{"parameters": {"version": 1}}'
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        assert (await server.raw(head + length + body)).startswith(b"HTTP/1.1 200")
        status, document = _json_of(
            await server.raw(head + b"Origin: http://localhost:%d\r\n" % port + length + body)
        )
        assert (status, document["reason"]) == (415, "CONTENT_TYPE_UNSUPPORTED")


async def test_the_page_is_served_with_strict_headers_and_asked_for_again_by_its_tag(server: HttpServer) -> None:
    answer = await server.ask("/")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    for inline in (b"<style", b" style=", b" onclick", b"http://", b"https://", b"//cdn"):
        assert inline not in answer.body
    again = await server.ask("/", headers={"If-None-Match": answer.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")
    for name, kind in (("page.css", "text/css"), ("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        file = await server.ask(f"/page/{name}")
        assert (file.status, file.headers["Content-Type"].partition(";")[0]) == (200, kind)
    assert (await server.ask("/page/index.html")).status == 404
    assert (await server.ask("/page/../server.py")).status == 404


async def test_without_the_page_the_rest_is_answered(tmp_path: Path) -> None:
    async with http_server(tmp_path, page=False) as server:
        assert (await server.ask("/")).rejection == (404, "PATH_NOT_FOUND")
        assert (await server.ask("/page/app.js")).status == 404
        assert (await server.ask(WHOLE, FACE)).status == 200


async def test_one_request_keeps_neighbours_waiting_only_shortly(server: HttpServer) -> None:
    """Two megabytes of numbers are read beside the event loop: probes go on meanwhile."""
    numbers = ",".join(["128"] * 500_000)
    body = '{"inputs": [{"name": "faces", "datatype": "UINT8", "shape": [1, 48, 48], "data": [' + numbers + "]}]}"
    asked = asyncio.ensure_future(server.ask("/v2/models/fer-nano/infer", io.BytesIO(body.encode())))
    probes = 0
    while not asked.done():
        assert (await server.ask("/healthz")).status == 200
        probes += 1
    assert (await asked).rejection == (400, "TENSOR_LENGTH_MISMATCH")
    assert probes >= 1
