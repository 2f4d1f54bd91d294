"""Tests the output of the command: at 80 columns, in a pipe, and after a typing error."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from support.scripted_server import ScriptedServer, serve
from support.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "from ferserve_client.cli import main\nmain()\n"
COLUMNS = 80


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


def on_terminal(*arguments: str, server: str, cwd: Path | None = None) -> tuple[int, str]:
    """Runs the command on a terminal of 80 columns; its exit code and everything that was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**environment, "FERSERVE_SERVER": server, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux tells the end of a terminal
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return process.returncode, shown.decode()


def in_pipe(*arguments: str, server: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "FERSERVE_SERVER": server, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def lines_of(shown: str) -> list[str]:
    """The lines without colors and movements of the cursor."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in re.split(r"[\r\n]+", shown)]


def test_the_table_of_models_fits_80_columns_and_cuts_no_word(server: ScriptedServer) -> None:
    code, shown = on_terminal("models", server=server.address)

    assert code == 0
    assert max(len(line) for line in lines_of(shown)) <= COLUMNS
    for word in ("fer-nano", "fer-wide", "ready", "checksum", "differs", "120,000", "0.680", "accuracy"):
        assert word in shown
    assert "…" not in shown


def test_a_watched_video_shows_rate_lag_and_emotion_in_80_columns(server: ScriptedServer, tmp_path: Path) -> None:
    write_video(tmp_path / "a video with quite a long name.mp4", [number / 30 for number in range(40)])
    server.frame_delay_s = 0.03

    code, shown = on_terminal("watch", "a video with quite a long name.mp4", server=server.address, cwd=tmp_path)

    lines = lines_of(shown)
    assert code == 0
    assert max(len(line) for line in lines) <= COLUMNS
    assert any(re.search(r"\d/s +lag \d+ ms +#1 happy 70%", line) for line in lines), lines


def test_into_a_pipe_tables_are_plain_and_whole(server: ScriptedServer) -> None:
    ran = in_pipe("models", server=server.address, COLUMNS="40")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.isascii()
    assert "\x1b" not in ran.stdout
    heading, *rows = ran.stdout.splitlines()
    assert heading.split()[:3] == ["model", "version", "state"]
    assert len(rows) == 4
    assert "failed: checksum differs" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["analyse", "a.jpg"], "analyze"),
        (["watch", "a.mp4", "--policy", "newest"], "latest"),
        (["watch", "a.mp4", "--detector", "yunnet"], "yunet"),
        (["watch", "a.mp4", "--savee", "b.mp4"], "--save"),
    ],
)
def test_a_slip_of_the_finger_is_answered_with_what_is_meant(arguments: list[str], meant: str) -> None:
    ran = in_pipe(*arguments, server="127.0.0.1:1", COLUMNS="200")

    assert ran.returncode == 2
    assert meant in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_misspelt_variable_is_named_with_the_one_that_is_meant(server: ScriptedServer) -> None:
    ran = in_pipe("health", server=server.address, FERSERVE_SEVER="elsewhere:1", FERSERVE_LISTEN="0.0.0.0:1")

    assert ran.returncode == 0
    assert ran.stderr == "ferserve: the variable FERSERVE_SEVER is not known. Did you mean FERSERVE_SERVER?\n"


@pytest.mark.parametrize("timeout", ["inf", "86400"])
def test_an_endless_timeout_is_taken(server: ScriptedServer, timeout: str) -> None:
    ran = in_pipe("health", "--timeout", timeout, server=server.address)

    assert (ran.returncode, ran.stdout) == (0, "serving\n")


@pytest.mark.parametrize("arguments", [["--timeout", "nan"], ["--server", " , "]])
def test_options_that_mean_nothing_are_misuse(arguments: list[str]) -> None:
    ran = in_pipe("health", *arguments, server="127.0.0.1:1")

    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
