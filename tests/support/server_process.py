"""Runs a real `ferserve-server` process, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ferserve_server.services.health import check_health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

START_S = 90.0
"""Longest start: TensorFlow's import takes 5 s on an idle core, and test machines are busy."""


class ServerProcess:
    """Runs the command until the block is left. Ports are free ones, reported by its log.

    Attributes:
        process: The process.
        log: What it wrote to stderr so far, by lines.
        address: HOST:PORT of the gRPC service.
        http_url: URL of JSON over HTTP, without a path.
        metrics_url: URL of /metrics.
    """

    def __init__(
        self,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
        module: str = "ferserve_server",
    ) -> None:
        """Notes what to start.

        Args:
            args: Flags beside those for the addresses.
            env: Variables beside those of this process.
            ready: Whether to wait until health says SERVING; else only until it listens.
            module: What to run, as `python -m` has it.
        """
        flags = ("--listen", "--http-listen", "--metrics-listen")
        addresses = [part for flag in flags for part in (flag, "127.0.0.1:0")]
        self._command = [sys.executable, "-m", module, *addresses, "--log-format", "json", *args]
        if not ready:
            self._command.append("--listen-before-ready")
        self._env = {**os.environ, **(env or {})}
        self._ready = ready
        self._written = threading.Condition()
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, env=self._env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            listening = self.wait_for_event("listening")
            self.address = f"127.0.0.1:{listening['port']}"
            self.http_url = f"http://127.0.0.1:{listening['http_port']}"
            self.metrics_url = f"http://127.0.0.1:{listening['metrics_port']}/metrics"
            if self._ready:
                self.wait_until(lambda: check_health(self.address, timeout_s=1), "is SERVING")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Waits for its end and returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._tell(f"did not end within {timeout_s:g} s")) from None

    def wait_for_event(self, event: str) -> dict[str, Any]:
        """Waits for a line of the log and returns its fields."""
        self.wait_until(lambda: self._event(event) is not None, f"logs {event!r}")
        found = self._event(event)
        assert found is not None
        return found

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition; fails with the log if the process ends or takes longer than `START_S`."""
        give_up_at = time.monotonic() + START_S
        while not condition():
            if self.process.poll() is not None:
                self._reader.join()
                raise AssertionError(self._tell(f"ended with {self.process.returncode} before it {what}"))
            if time.monotonic() > give_up_at:
                raise AssertionError(self._tell(f"took more than {START_S:g} s until it {what}"))
            with self._written:
                self._written.wait(0.05)

    def _event(self, event: str) -> dict[str, Any] | None:
        for line in list(self.log):
            if line.startswith("{") and (fields := json.loads(line)).get("event") == event:
                found: dict[str, Any] = fields
                return found
        return None

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._written:
                self.log.append(line.rstrip("\n"))
                self._written.notify_all()

    def _tell(self, what: str) -> str:
        return f"{' '.join(self._command)}\n{what}. Its log:\n" + "\n".join(self.log[-50:])


def run_fake_server(model_repo: Path, *args: str, ready: bool = True) -> ServerProcess:
    """A server whose versions are those of `support.engine_children`, which starts in a second."""
    fixed = ["--default-model", "fer-nano", "--bucket-sizes", "1,8", "--precision", "float32", "--tune", "fixed"]
    return ServerProcess(
        ["--model-repo", str(model_repo), "--repository-poll-s", "0.1", *fixed, *args],
        {"PYTHONPATH": str(Path(__file__).parents[1])},
        ready=ready,
        module="support.fake_engine_program",
    )


def run_server(model_repo: Path, *args: str, ready: bool = True) -> ServerProcess:
    """A server on a folder of models that looks for new ones often, and runs few batch sizes, unmeasured.

    With TLS it cannot be asked whether it is `ready`.
    """
    fixed = [
        "--default-model",
        "fer-nano",
        "--bucket-sizes",
        "1,8,32",
        "--precision",
        "float32",
        "--tune",
        "fixed",
    ]
    return ServerProcess(
        ["--model-repo", str(model_repo), "--repository-poll-s", "0.1", *fixed, *args], ready=ready
    )
