"""Tests `ferserve quickstart` with the real server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ferserve_client import EmotionClient, FerserveError
from ferserve_client.cli import app
from ferserve_client.cli.local_server import event_of, free_port, text_of

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "from ferserve_client.cli import main\nmain()\n"
FAST = ("--default-model", "fer-nano", "--bucket-sizes", "1,8", "--precision", "float32", "--tune", "fixed")


def start(*arguments: str, flags: tuple[str, ...], **environment: str) -> subprocess.Popen[str]:
    """Starts the command without a display, unless `environment` names one."""
    without = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "quickstart", "--port", "0", *arguments, "--", *flags],
        env={**without, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], last: str) -> str:
    """Reads stdout up to the line that begins so."""
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if line.startswith(last):
            return shown
    raise AssertionError(shown + process.stderr.read() if process.stderr else shown)


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A browser that keeps the address that it is given."""
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/opened"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("number", "options", "opens"), [(signal.SIGTERM, (), True), (signal.SIGINT, ("--no-browser",), False)]
)
def test_a_server_is_started_its_page_opened_and_a_signal_stops_both(
    tiny_model_repo: Path, browser: Path, number: signal.Signals, options: tuple[str, ...], opens: bool
) -> None:
    flags = ("--model-repo", str(tiny_model_repo), *FAST)
    with start(*options, flags=flags, DISPLAY=":77", BROWSER=str(browser)) as process:
        try:
            shown = read_until(process, "Ctrl-C")
            page = re.search(r"http://127\.0\.0\.1:\d+/", shown)
            assert page is not None, shown
            with urllib.request.urlopen(page[0], timeout=20) as answer:
                assert "<title>" in answer.read().decode()
            named = re.search(r"--server (\S+)", shown)
            address = named[1] if named else "127.0.0.1:50051"
            with EmotionClient(address) as client:
                assert client.model().name == "fer-nano"
        finally:
            process.send_signal(number)
        rest, complaints = process.communicate(timeout=60)

    assert (process.returncode, rest, complaints) == (128 + number, "Stopped.\n", "")
    opened = browser.with_name("opened")
    assert (opened.read_text() == page[0]) if opens else not opened.exists()
    assert ("is open in your browser" in shown) is opens
    with EmotionClient(address, timeout_s=0.5) as client, pytest.raises(FerserveError):
        client.health()


def test_a_server_that_rejects_its_flags_is_reported_with_its_reason() -> None:
    with start(flags=("--score-threshold", "7")) as process:
        shown, complaints = process.communicate(timeout=60)

    assert (process.returncode, shown) == (1, "Starting ferserve-server ...\n")
    assert "ended with exit code 2" in complaints
    assert "score_threshold" in complaints
    assert "Traceback" not in complaints


def test_a_server_without_models_says_so_at_once_and_is_not_waited_for_endlessly(tmp_path: Path) -> None:
    with start(
        "--start-timeout", "8", flags=("--model-repo", str(tmp_path), "--backend", "onnxruntime")
    ) as process:
        _, complaints = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "ferserve: server: the default model is not ready" in complaints
    assert "does not answer after 8 s" in complaints


def test_without_the_server_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    ran = CliRunner().invoke(app, ["quickstart"])

    assert ran.exit_code == 1
    assert "pip install 'ferserve[onnx]'" in ran.stderr


def test_a_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) == 0
    assert free_port(port) == port


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"event": "gone", "level": "error", "path": "a", "port": null, "timestamp": "t"}', "gone (path a)"),
        ('{"event": "rejected", "exception": [{"exc_value": "It is broken."}]}', "rejected: It is broken."),
        ('{"event": "draining"}', "draining"),
    ],
)
def test_an_event_of_the_log_becomes_one_line(line: str, text: str) -> None:
    assert text_of(event_of(line)) == text


@pytest.mark.parametrize("line", ["usage: ferserve-server", "[1, 2]", ""])
def test_other_lines_of_the_log_are_no_events(line: str) -> None:
    assert event_of(line) == {}
