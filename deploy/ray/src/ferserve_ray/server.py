"""Runs one `ferserve-server` as a child process, and starts it again when it ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

_EXIT_USAGE: Final = 2
"""Exit code of a server that rejects its settings: another start is of no use."""

_BACKOFF_S: Final = (0.5, 30.0)
"""First and longest wait before another start. It doubles while the server ends within the longest one."""

_ASK_TIMEOUT_S: Final = 2.0
"""Longest wait for health or metrics, in seconds. Both are on loopback."""

_QUEUE_AGE: Final = "ferserve_queue_oldest_age_seconds"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Says how the server of each replica is started.

    Attributes:
        command: Program and first arguments. Empty: `ferserve-server` beside this Python or on the PATH.
        flags: Settings of the server. Addresses and the log's format are set by the replica.
        environment: Variables beside those of the replica.
        start_timeout_s: Longest time until the server is ready, in seconds.
        stop_timeout_s: Longest time that it may drain, in seconds; then it is killed.
        unready_timeout_s: A server that is not ready for so long makes the replica unhealthy, in seconds.
    """

    command: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 45.0
    unready_timeout_s: float = 60.0

    def command_line(self, host: str, port: int) -> list[str]:
        """Returns the command of a server on an address; port 0 for one that the system picks.

        Raises:
            FileNotFoundError: There is no such program.
        """
        command = self.command or _installed()
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(f"there is no program {command[0]!r} on this node (ServerOptions.command)")
        private = ["--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json"]
        setpriv = shutil.which("setpriv")
        # Linux kills the server when the thread that has started it ends, so that it never outlives its actor.
        bound = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        return [*bound, *command, *self.flags, "--listen", f"{host}:{port}", *private]


def _installed() -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("ferserve-server")
    found = str(beside) if beside.exists() else shutil.which("ferserve-server")
    if found is None:
        raise FileNotFoundError(
            "there is no ferserve-server beside this Python or on the PATH: install ferserve-server[cpu] on every "
            "node, or name its command in ServerOptions.command"
        )
    return (found,)


class Server:
    """Keeps one server running until `stop`. Thread-safety: any thread.

    The thread that starts the process waits for its end, so that it lives as long as this process.

    Attributes:
        address: HOST:PORT of gRPC; "" until it listens for the first time. It stays the same afterwards.
        start_count: Number of starts so far.
        rejected: What a server has written that rejects its settings; "" while none has.
    """

    def __init__(self, options: ServerOptions, host: str) -> None:
        """Starts the server and returns at once.

        Args:
            options: How it is started.
            host: Address of this node that it listens on.

        Raises:
            FileNotFoundError: There is no such command.
        """
        options.command_line(host, 0)
        self.address = ""
        self.start_count = 0
        self.rejected = ""
        self._last_line = ""
        self._options = options
        self._host = host
        self._stopping = threading.Event()
        self._listening: dict[str, Any] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._ready_at = time.monotonic()
        self._thread = threading.Thread(target=self._keep_running, name="ferserve-server", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Returns the process id, or None between an end and the next start."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def is_ready(self) -> bool:
        """Asks the server whether it answers calls. Blocks up to `_ASK_TIMEOUT_S`."""
        listening = self._listening
        if listening is None or self._stopping.is_set():
            return False
        try:
            self._ask(f"http://127.0.0.1:{listening['http_port']}/readyz")
        except OSError:
            return False
        self._ready_at = time.monotonic()
        return True

    def unready_s(self) -> float:
        """Returns the seconds since the server was last found ready."""
        return time.monotonic() - self._ready_at

    def queue_age_s(self) -> float:
        """Asks for the age of the oldest face that waits, in seconds; 0 while the server cannot say."""
        listening = self._listening
        if listening is None:
            return 0.0
        try:
            text = self._ask(f"http://127.0.0.1:{listening['metrics_port']}/metrics")
        except OSError:
            return 0.0
        return queue_age_s(text)

    def wait_ready(self) -> None:
        """Waits for the first readiness.

        Raises:
            ValueError: The server rejects its settings.
            TimeoutError: It took longer than `start_timeout_s`.
        """
        give_up_at = time.monotonic() + self._options.start_timeout_s
        while not self.is_ready():
            if self.rejected:
                raise ValueError(f"ServerOptions.flags: {self.rejected}")
            if time.monotonic() > give_up_at:
                self.stop()
                raise TimeoutError(
                    f"the server was not ready within {self._options.start_timeout_s:g} s; its log is in the "
                    "log of this replica. Check the flags, or raise ServerOptions.start_timeout_s"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Drains the server and waits for its end."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._options.stop_timeout_s)
            process.kill()
        self._thread.join(5.0)

    def _keep_running(self) -> None:
        backoff_s, longest_s = _BACKOFF_S
        while not self._stopping.is_set():
            began_at = time.monotonic()
            code = self._run_once()
            self._listening = None
            if code == _EXIT_USAGE:
                self.rejected = self._last_line or "the server rejects its settings"
            if self._stopping.is_set() or self.rejected:
                return
            log.error("ferserve-server ended with %s; it is started again in %g s", code, backoff_s)
            self._stopping.wait(backoff_s)
            lasted = time.monotonic() - began_at > longest_s
            backoff_s = _BACKOFF_S[0] if lasted else min(2 * backoff_s, longest_s)

    def _run_once(self) -> int:
        """Runs the server until its end, and returns its exit code."""
        port = int(self.address.rpartition(":")[2] or 0)
        process = subprocess.Popen(  # noqa: S603 - the command is that of the options
            self._options.command_line(self._host, port),
            env={**os.environ, **self._options.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._process = process
        self.start_count += 1
        if self._stopping.is_set():  # `stop` has not seen this process
            process.terminate()
        with process:
            for line in process.stderr or ():
                sys.stderr.write(line)
                self._last_line = line.strip()
                self._read(line)
            return process.wait()

    def _read(self, line: str) -> None:
        if self._listening is None and '"listening"' in line:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record.get("event") == "listening":
                    self.address = f"{self._host}:{record['port']}"
                    self._listening = record

    @staticmethod
    def _ask(url: str) -> str:
        # Without the proxies of the environment, which do not lead to this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=_ASK_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
        return text


def queue_age_s(metrics: str) -> float:
    """Returns the largest age of a queue in a Prometheus exposition, in seconds; 0 if there is none. Pure."""
    ages = [
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith((_QUEUE_AGE + "{", _QUEUE_AGE + " "))
    ]
    return max(ages, default=0.0)
