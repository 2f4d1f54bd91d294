"""Tests that rolling restarts behind Envoy lose no call and no frame of a stream."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import pytest
from envoy_proxy import Envoy

from support.rolling import Callers, Servers
from support.videos import write_video

if TYPE_CHECKING:
    from pathlib import Path

FRAME_COUNT = 300
WATCH = "from ferserve_client.cli import main\nmain()\n"


class Watchers:
    """Watches a recorded video over and over until the block is left, with the command that people use.

    Attributes:
        ended: Exit code, sequence numbers and complaints of each run.
    """

    def __init__(self, address: str, video: Path, count: int = 2) -> None:
        self.ended: list[tuple[int, list[int], str]] = []
        self._command = [sys.executable, "-c", WATCH, "watch", str(video), "--json", "--patience", "120"]
        self._command += ["--server", address]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._watch) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=150, check=False)
            numbers = [json.loads(line)["sequence_id"] for line in done.stdout.splitlines()]
            self.ended.append((done.returncode, numbers, done.stderr))


@pytest.mark.timeout(400)
def test_restarts_of_all_servers_lose_nothing(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    write_video(video, [number / 30 for number in range(FRAME_COUNT)])
    # Without a lame duck calls reach servers that reject them already, so that they are lost unless tried again.
    flags = ("--lame-duck-s", "0", "--detection-side-pixels", "160")
    with Servers(tmp_path / "models", 3, *flags) as servers, Envoy(servers.addresses, tmp_path) as envoy:
        envoy.wait_for_servers(servers.addresses)
        with Callers(envoy.address, pause_s=0.02) as callers, Watchers(envoy.address, video) as watchers:
            callers.wait_for(50)
            for address in servers.addresses:
                assert servers.stop(address) == 0
                callers.wait_for(20)
                servers.start(address)
                envoy.wait_for_servers(servers.addresses)
            callers.wait_for(50)

    assert callers.errors == []
    assert watchers.ended
    for code, numbers, complaints in watchers.ended:
        assert code == 0, complaints
        assert numbers == list(range(FRAME_COUNT)), complaints
    assert any("server" in complaints for _, _, complaints in watchers.ended), "no stream was interrupted"
