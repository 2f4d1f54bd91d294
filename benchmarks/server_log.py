"""Runs a real `ferserve-server` process and reads the events of its log, for benchmarks."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PATIENCE_S = 300.0
"""Longest wait for an event: a start takes 5 s on an idle machine, and minutes where other work goes first."""


class ServerLog:
    """Reads the log of a running server.

    Attributes:
        process: The process.
        path: Its log, a JSON object a line.
    """

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process = process
        self.path = path

    def wait_for(self, event: str, **fields: object) -> tuple[float, dict[str, Any]]:
        """Waits for the first line of an event with these fields.

        Raises:
            RuntimeError: A version was rejected meanwhile, the server ended, or it took longer than `PATIENCE_S`.

        Returns:
            When it was logged, in seconds since 1970, and its fields.
        """
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at and self.process.poll() is None:
            for line in self.path.read_text().splitlines():
                found = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
                if found.get("event") == "version rejected":
                    raise RuntimeError(f"the server rejected {found['servable']}: {found['reason']}; see its log")
                if found.get("event") == event and fields.items() <= found.items():
                    return datetime.fromisoformat(found["timestamp"]).timestamp(), found
            time.sleep(0.1)
        tail = "\n".join(self.path.read_text().splitlines()[-20:])
        raise RuntimeError(f"the server did not log {event!r} {fields}; the end of its log:\n{tail}")


@contextlib.contextmanager
def server_process(model_repo: Path, log_path: Path, flags: Sequence[str]) -> Iterator[tuple[ServerLog, str]]:
    """Runs a server on a free port; gives its log and its address, and stops it with SIGTERM.

    Raises:
        RuntimeError: It did not start, or did not drain.
    """
    command = [sys.executable, "-m", "ferserve_server", "--model-repo", str(model_repo)]
    command += ["--default-model", "fer-nano", "--log-format", "json"]
    command += ["--listen", "127.0.0.1:0", "--http-listen", "off", "--metrics-listen", "off", *flags]
    with log_path.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    log = ServerLog(process, log_path)
    try:
        _, listening = log.wait_for("listening")
        yield log, f"127.0.0.1:{listening['port']}"
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
