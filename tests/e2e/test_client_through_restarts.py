"""Tests the client while real servers are killed and restarted."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from ferserve_client import EmotionClient
from support.server_process import run_server
from support.videos import write_video

FRAME_COUNT = 60
PICTURE = (Path(__file__).parents[1] / "media" / "astronaut.jpg").read_bytes()
PROGRAM = "from ferserve_client.cli import main\nmain()\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_recorded_video_ends_with_every_frame_answered_although_the_server_was_killed(
    tiny_model_repo: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "video.mp4", [number / 30 for number in range(FRAME_COUNT)])
    address = f"127.0.0.1:{free_port()}"
    with run_server(tiny_model_repo, "--listen", address) as first:
        watching = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                "watch",
                "video.mp4",
                "--json",
                "--patience",
                "120",
                "--server",
                address,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(5)]
        first.process.kill()
        first.process.wait()
    with run_server(tiny_model_repo, "--listen", address), watching:
        rest, complaints = watching.communicate(timeout=120.0)

    records = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    assert watching.returncode == 0, complaints
    assert [record["sequence_id"] for record in records] == list(range(FRAME_COUNT))
    assert "lost the server" in complaints


def test_rolling_restarts_behind_several_addresses_lose_no_call(tiny_model_repo: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    stop, calls, errors = threading.Event(), [0], []

    def call_on() -> None:
        with EmotionClient([staying.address, address], timeout_s=20.0) as client:
            while not stop.is_set():
                try:
                    client.classify([PICTURE])
                    calls[0] += 1
                except Exception as error:  # noqa: BLE001 - counted
                    errors.append(error)

    with run_server(tiny_model_repo) as staying:
        with run_server(tiny_model_repo, "--listen", address) as first:
            callers = [threading.Thread(target=call_on) for _ in range(3)]
            for caller in callers:
                caller.start()
            first.wait_until(lambda: calls[0] > 50, "has answered calls")
            first.terminate()
            first.wait()
        with run_server(tiny_model_repo, "--listen", address):
            before = calls[0]
            staying.wait_until(lambda: calls[0] > before + 50, "has answered more calls")
            stop.set()
            for caller in callers:
                caller.join()

    assert errors == []
