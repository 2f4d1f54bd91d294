"""Runs `ferserve-server` of the same environment as a child process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

PROGRAM: Final = "ferserve-server"
STOP_TIMEOUT_S: Final = 45.0
"""Maximum time from SIGTERM to the end. The server itself waits 30 s for accepted calls (`--drain-timeout-s`)."""

KEPT_LINES: Final = 5
"""Lines of the log that are shown when the server ends by itself."""


class ServerNotInstalledError(Exception):
    """Reports that there is no `ferserve-server` beside this Python or on the PATH."""


class LocalServer:
    """Runs a server until the block is left, which stops it with SIGTERM and waits for its end.

    Args:
        flags: Flags of the server.
        report_error: Takes the text of each error that the server logs. Called on another thread.

    Raises:
        ServerNotInstalledError: There is no server to start.
        OSError: The system cannot start it.
    """

    def __init__(self, flags: Sequence[str], report_error: Callable[[str], None]) -> None:
        self._command = [find_server(), *flags, "--log-format", "json"]
        self._report_error = report_error
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._listening: dict[str, object] | None = None
        self._changed = threading.Condition()
        self._is_stopping = False

    def __enter__(self) -> Self:
        # A process group of its own: Ctrl-C at the terminal reaches this process alone, which stops the child.
        self._process = subprocess.Popen(  # noqa: S603 - the server's own command
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read_log, name="ferserve-server-log", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except BaseException:  # it hangs, or a second signal asks not to wait
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reader.join(1.0)

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the server; None while it runs."""
        return self._process.poll()

    @property
    def last_lines(self) -> list[str]:
        """Return the last lines of its log."""
        self._reader.join(1.0)
        return list(self._last_lines)

    def ports(self, timeout_s: float) -> tuple[int, int | None] | None:
        """Return the ports of gRPC and HTTP (None: its flags turn HTTP off); None while it does not listen yet.

        Args:
            timeout_s: Maximum wait, in seconds.
        """
        with self._changed:
            if self._listening is None:
                self._changed.wait(timeout_s)
            found = self._listening
        if found is None:
            return None
        http_port = found["http_port"]
        return int(str(found["port"])), None if http_port is None else int(str(http_port))

    def _read_log(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it was opened as a pipe
        for line in self._process.stderr:
            event = event_of(line)
            text = text_of(event) if event else line.rstrip("\n")
            self._last_lines.append(text)
            if event.get("level") in {"error", "critical"} and not self._is_stopping:
                self._report_error(text)
            if event.get("event") == "listening":
                with self._changed:
                    self._listening = event
                    self._changed.notify_all()


def find_server() -> str:
    """Return the path of `ferserve-server`: the one of this environment, else the first one on the PATH.

    Raises:
        ServerNotInstalledError: There is none.
    """
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise ServerNotInstalledError(
            "the server is not installed here. pip install 'ferserve[onnx]' brings it on ONNX Runtime, "
            "'ferserve[cpu]' on TensorFlow, each with models"
        )
    return found


def free_port(wanted: int) -> int:
    """Return the port if nothing listens on it at 127.0.0.1; else 0, for which the system picks one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def event_of(line: str) -> dict[str, object]:
    """Return the fields of a line of the server's JSON log; empty for any other line."""
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def text_of(event: dict[str, object]) -> str:
    """Return an event of the log as one line: its sentence, and the fields that tell what it is about."""
    left_out = {"event", "level", "timestamp", "exception"}
    fields = ", ".join(
        f"{name} {value}" for name, value in event.items() if name not in left_out and value is not None
    )
    causes = event.get("exception")
    cause = f": {causes[0].get('exc_value')}" if isinstance(causes, list) and causes else ""
    return f"{event.get('event', '')}{f' ({fields})' if fields else ''}{cause}"
