"""Starts servers on fixed ports, again and again, as a supervisor does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from loads import ROOT
from servers import free_port, is_listening, is_serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_S: Final = 180.0
STOP_S: Final = 60.0


class Target:
    """Runs one server; start it again with `restart`.

    Attributes:
        address: HOST:PORT of its gRPC service.
        http: HOST:PORT of its HTTP port.
        metrics: HOST:PORT of its metrics port.
        process: The process that runs now.
        exit_codes: Of those that were stopped.
    """

    def __init__(
        self, command: Callable[[Target], Sequence[str]], ready: Callable[[str], bool], log: Path
    ) -> None:
        self.address, self.http, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self._command = command
        self._ready = ready
        self.log = log
        self.exit_codes: list[int] = []

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> float:
        """Stops it as a supervisor does, starts it again, and returns the seconds until it is ready."""
        self.stop()
        return self._start()

    def stop(self) -> float:
        """Sends SIGTERM and returns the seconds until it has ended."""
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_codes.append(self.process.wait(STOP_S))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.exit_codes.append(self.process.wait())
        return time.monotonic() - started_s

    def _start(self) -> float:
        started_s = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command(self), stdout=log, stderr=log, cwd=ROOT / "benchmarks")
        while not self._ready(self.address):
            if self.process.poll() is not None or time.monotonic() - started_s > START_S:
                raise TimeoutError(f"not ready, exit code {self.process.poll()}: {self.log.read_text()[-500:]}")
            time.sleep(0.05)
        return time.monotonic() - started_s


def ferserve(log: Path, *flags: str) -> Target:
    """Describes a server with the bundled models, of which it loads fer-nano alone."""
    models = log.parent / "models"
    if not models.exists():
        models.mkdir()
        (models / "fer-nano").symlink_to(ROOT / "model_repo" / "fer-nano")

    def command(target: Target) -> list[str]:
        return [
            *(sys.executable, "-m", "ferserve_server", "--model-repo", str(models), "--log-format", "json"),
            *("--listen", target.address, "--http-listen", target.http, "--metrics-listen", target.metrics),
            *("--default-model", "fer-nano", "--bucket-sizes", "1,8,32", "--precision", "float32"),
            *("--tune", "fixed", "--repository-poll-s", "0", *flags),
        ]

    return Target(command, is_serving, log)


def plain_grpc(log: Path) -> Target:
    """Describes a bare grpc.aio server that stops as its documentation shows."""
    return Target(lambda target: [sys.executable, "-m", "chaos.plain_server", target.address], is_listening, log)
