"""Tests JSON over HTTP from start to stop: probes, addresses, draining, and turning it off."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import numpy as np
import pytest
from aiohttp import ClientConnectorError

from ferserve_server.domain.errors import DrainingError, ModelNotReadyError
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.http.health import why_not_ready
from ferserve_server.runtime.addresses import ListenError
from support.fake_models import publish_fake
from support.http import BlockingLoader, http_server
from support.local_server import eventually, local_server
from support.pictures import encode
from support.server_process import run_server

if TYPE_CHECKING:
    from pathlib import Path

    from support.server_process import ServerProcess

FACE = encode(np.full((48, 48), 3, np.uint8), "PNG")
WHOLE = "/v1/analyze?detect=false"


async def test_probes_tell_that_it_lives_and_is_ready(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert (await server.ask(path)).status == 200
            head = await server.ask(path, method="HEAD")
            assert (head.status, head.body) == (200, b"")


async def test_without_its_default_model_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with http_server(tmp_path, default_model="other", ready=False) as server:
        assert (await server.ask("/healthz")).status == 200
        for path in ("/readyz", "/v2/health/ready"):
            answer = await server.ask(path)
            assert answer.rejection == (503, "MODEL_NOT_READY")
            assert "'other'" in answer.json["error"]
            assert answer.headers["Retry-After"] == "1"


def test_draining_is_reported_before_a_model_that_is_not_ready() -> None:
    assert isinstance(why_not_ready(draining=True, ready=False, default_model="x"), DrainingError)
    assert isinstance(why_not_ready(draining=False, ready=False, default_model="x"), ModelNotReadyError)
    assert isinstance(why_not_ready(draining=False, ready=False, default_model=""), UpstreamUnavailableError)
    assert why_not_ready(draining=False, ready=True, default_model="x") is None


async def test_a_drain_answers_what_was_taken_and_accepts_no_connection(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with http_server(tmp_path, loader) as server:
        loader.unblocked.clear()
        taken = asyncio.ensure_future(server.ask(WHOLE, FACE))
        await server.wait_for_metric(1, "requests_in_progress", method="HTTP/analyze")
        drained = server.server.running.drain()
        await server.wait_for_metric(1, "requests_in_progress", method="HTTP/analyze")
        with pytest.raises(ClientConnectorError):
            await server.ask("/healthz")
        assert not drained.done()
        loader.unblocked.set()
        answer = await taken
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        assert await drained


async def test_during_the_lame_duck_calls_are_still_answered(tmp_path: Path) -> None:
    async with http_server(tmp_path, lame_duck_s=1.0) as server:
        drained = server.server.running.drain()

        async def not_ready() -> bool:
            return (await server.ask("/readyz")).status == 503

        await eventually(not_ready)
        assert (await server.ask("/readyz")).rejection == (503, "DRAINING")
        assert (await server.ask(WHOLE, FACE)).status == 200
        assert await drained


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:http", "127.0.0.1:99999", "taken"])
async def test_an_address_that_cannot_be_used_names_its_flag(tmp_path: Path, address: str) -> None:
    async with http_server(tmp_path) as server:
        taken = f"127.0.0.1:{server.server.running.http_port}"
        with pytest.raises(ListenError, match="--http-listen"):
            async with local_server(tmp_path, http_listen=taken if address == "taken" else address, ready=False):
                pass
        assert (await server.ask("/healthz")).status == 200


async def test_turned_off_it_listens_nowhere(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, http_listen="off") as server:
        assert server.running.http_port is None


def test_who_turns_it_off_does_not_load_the_library() -> None:
    code = "import sys, ferserve_server.app.primary_main; raise SystemExit('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def _post(url: str) -> int:
    request = urllib.request.Request(url, FACE, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


class Load:
    """Clients on threads that post until they are rejected, and what became of every request."""

    def __init__(self, url: str, client_count: int) -> None:
        self._url = url
        self.answered = threading.Semaphore(0)
        self.ends: list[object] = []
        self._threads = [threading.Thread(target=self._post_until_rejected) for _ in range(client_count)]
        for thread in self._threads:
            thread.start()

    def _post_until_rejected(self) -> None:
        try:
            while _post(self._url) == 200:
                self.answered.release()
        except urllib.error.HTTPError as error:
            self.ends.append((error.code, b"DRAINING" in error.read()))
            error.close()
        except urllib.error.URLError as error:
            self.ends.append(type(error.reason))

    def wait_for_ends(self) -> list[object]:
        for thread in self._threads:
            thread.join(60)
        return self.ends


def test_sigterm_under_load_cuts_no_request_that_was_taken(tiny_model_repo: Path) -> None:
    with run_server(tiny_model_repo, "--lame-duck-s", "0.3") as server:
        load = Load(server.http_url + WHOLE, 4)
        for _ in range(20):
            assert load.answered.acquire(timeout=30)
        os.kill(server.process.pid, signal.SIGTERM)
        ends = load.wait_for_ends()
        assert len(ends) == 4
        # Nobody was there to connect to any more; none was cut off within an answer.
        assert set(ends) <= {ConnectionRefusedError, ConnectionResetError}
        assert server.wait() == 0


def test_a_real_process_answers(running_server: ServerProcess) -> None:
    assert _post(running_server.http_url + WHOLE) == 200
