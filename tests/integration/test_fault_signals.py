"""Tests signals that are no stop: files are read again, and the server goes on (faults, item 27)."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from ferserve_server.services.health import check_health
from support.fake_models import publish_fake
from support.processes import children
from support.server_process import run_fake_server

if TYPE_CHECKING:
    from pathlib import Path


def test_sighup_has_files_read_again_and_other_signals_are_ignored(tmp_path: Path) -> None:
    publish_fake(tmp_path / "models")
    token = tmp_path / "token"
    token.write_text("a token that is long enough")
    flags = ("--control-on-main", "--control-token-file", str(token), "--processes", "2")
    with run_fake_server(tmp_path / "models", *flags) as server:
        pids = children(of=server.process.pid)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            server.process.send_signal(number)
        token.write_text("another token, long enough")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_event("control token read again")
        server.wait_until(lambda: _ignored(server.log) == {"SIGUSR1", "SIGUSR2"}, "ignored both")
        for pid in pids:
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(pid, number)
        assert check_health(server.address, timeout_s=20)
        assert children(of=server.process.pid) == pids
        server.terminate()
        assert server.wait(60) == 0


def _ignored(log: list[str]) -> set[str]:
    lines = [json.loads(line) for line in list(log) if line.startswith("{")]
    return {line["signal"] for line in lines if line["event"] == "signal ignored: it has no meaning"}
