"""Tests the command `ferserve` against a scripted server, as a shell would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from ferserve_client.cli import app
from support.scripted_server import BROKEN, Rejection, ScriptedServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "127.0.0.1:1"
FRAME_COUNT = 12
FPS = 10.0


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Three pictures of 640 x 480, as the script says of every picture."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))
    return [str(path) for path in paths]


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Twelve frames of 1280 x 960, ten a second."""
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), FPS, (1280, 960))
    for number in range(FRAME_COUNT):
        writer.write(np.full((960, 1280, 3), number * 20, np.uint8))
    writer.release()
    return path


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, *arguments: str, server: str) -> None:
        result = CliRunner().invoke(app, list(arguments), env={"FERSERVE_SERVER": server})
        self.exit_code = result.exit_code
        self.stdout = result.stdout
        self.complaints = result.stderr.splitlines()
        self.error = result.exception if not isinstance(result.exception, SystemExit) else None

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def test_analyze_shows_a_table(server: ScriptedServer, pictures: list[str]) -> None:
    ran = Ran("analyze", *pictures, server=server.address)

    assert (ran.exit_code, ran.complaints) == (0, [])
    assert ran.stdout.count("30 x 40 at 10, 20") == 3


def test_analyze_sends_many_pictures_in_requests_of_eight(server: ScriptedServer, pictures: list[str]) -> None:
    ran = Ran("analyze", *(pictures * 7), "--json", server=server.address)

    assert [record["source"] for record in ran.records] == pictures * 7
    assert sorted(len(request.images) for request in server.requests["AnalyzeImages"]) == [5, 8, 8]


def test_analyze_tells_of_every_bad_picture_and_goes_on(
    server: ScriptedServer, pictures: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(BROKEN)
    missing = str(tmp_path / "missing.jpg")

    ran = Ran("analyze", pictures[0], str(broken), missing, pictures[1], "--json", server=server.address)

    assert ran.exit_code == 1
    assert [record.get("failure", {}).get("reason") for record in ran.records] == [
        None,
        "IMAGE_UNREADABLE",
        "FILE_UNREADABLE",
        None,
    ]
    assert ran.complaints == [
        f"ferserve: {broken}: The picture cannot be decoded.",
        f"ferserve: {missing}: No such file or directory",
    ]


def test_analyze_saves_annotated_pictures_and_overwrites_none(
    server: ScriptedServer, pictures: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "annotated"

    ran = Ran("analyze", pictures[0], pictures[0], "--save", str(folder), server=server.address)

    assert (ran.exit_code, ran.complaints) == (0, [])
    assert sorted(path.name for path in folder.iterdir()) == ["0-2.jpg", "0.jpg"]
    annotated = cv2.imread(str(folder / "0.jpg"))
    assert annotated is not None
    assert annotated.any()


def test_a_request_that_failed_leaves_the_others(server: ScriptedServer, pictures: list[str]) -> None:
    server.rejections["AnalyzeImages"].append(Rejection(grpc.StatusCode.INTERNAL, "INTERNAL", "oops"))

    ran = Ran("analyze", *(pictures * 4), "--json", server=server.address)

    assert ran.exit_code == 1
    failed = [record["failure"] for record in ran.records if "failure" in record]
    assert len(ran.records) == 12
    assert len(failed) in {4, 8}
    assert {failure["reason"] for failure in failed} == {"INTERNAL"}


def test_a_failure_that_all_share_is_reported_once(server: ScriptedServer, pictures: list[str]) -> None:
    missing = Rejection(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "no model 'x'")
    server.rejections["AnalyzeImages"].extend([missing] * 3)

    ran = Ran("analyze", *(pictures * 7), "--model", "x", server=server.address)

    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.complaints == ["ferserve: no model 'x' (ferserve models lists what is there)"]


@pytest.mark.parametrize("command", ["analyze", "classify", "watch", "models", "health"])
def test_a_server_that_is_not_there_is_one_line(command: str, pictures: list[str], video: str) -> None:
    inputs = {"analyze": pictures, "classify": pictures, "watch": [video]}.get(command, [])

    ran = Ran(command, *inputs, "--timeout", "0.5", server=NOBODY)

    assert (ran.exit_code, ran.stdout, ran.error) == (1, "", None)
    assert len(ran.complaints) == 1
    assert ran.complaints[0].startswith(f"ferserve: no server answers at {NOBODY} (")
    assert "--server" in ran.complaints[0]


def test_classify_sends_crops(server: ScriptedServer, pictures: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(BROKEN)

    ran = Ran("classify", pictures[0], str(broken), "--json", server=server.address)

    assert ran.exit_code == 1
    good, bad = ran.records
    assert (good["emotion"], good["model"]) == ("sad", {"name": "fer-nano", "version": 3})  # byte 137 % 7 is 4
    assert bad["failure"]["reason"] == "IMAGE_UNREADABLE"
    assert "sad" in Ran("classify", pictures[0], server=server.address).stdout


def test_models_and_health(server: ScriptedServer) -> None:
    assert [record["name"] for record in Ran("models", "--json", server=server.address).records] == [
        "fer-nano",
        "fer-wide",
    ]
    assert "checksum" in Ran("models", server=server.address).stdout
    assert Ran("health", server=server.address).stdout == "serving\n"
    assert Ran("health", "fer-wide", server=server.address).exit_code == 1
    unknown = Ran("health", "nope", server=server.address)
    assert (unknown.exit_code, unknown.complaints) == (1, ["ferserve: the server has no service 'nope'"])


def test_a_command_ends_though_a_lock_of_another_thread_is_never_released() -> None:
    program = (
        "import threading\n"
        "class Channel:\n"
        "    def __del__(self, lost_lock=threading.Event()):\n"
        "        lost_lock.wait()\n"
        "channel = Channel()\n"
        "from ferserve_client.cli import main\n"
        "main()\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False, timeout=60.0
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "0.1.0\n", "")


def test_certificates_that_do_not_go_together_are_misuse() -> None:
    ran = Ran("health", "--cert-file", "client.pem", server=NOBODY)

    assert ran.exit_code == 2
    assert "go together" in " ".join(ran.complaints)


def test_a_certificate_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ran = Ran("health", "--ca-file", str(tmp_path / "ca.pem"), server=NOBODY)

    assert (ran.exit_code, ran.complaints) == (
        1,
        [f"ferserve: {tmp_path / 'ca.pem'}: No such file or directory"],
    )


def test_a_reader_that_leaves_early_is_no_trouble(server: ScriptedServer) -> None:
    program = "from ferserve_client.cli import main\nmain()\n"
    reading, writing = os.pipe()
    os.close(reading)

    ran = subprocess.run(
        [sys.executable, "-c", program, "models", "--json"],
        env={**os.environ, "FERSERVE_SERVER": server.address},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    assert ran.returncode == 1
    assert ran.stderr == ""


def test_version() -> None:
    assert Ran("--version", server=NOBODY).stdout == "0.1.0\n"
