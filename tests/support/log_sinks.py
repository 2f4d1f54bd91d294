"""Runs a server whose log sink is broken: it cannot report its ports, so they are chosen in advance."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ferserve_server.services.health import check_health
from support.server_process import START_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STALLED, GONE, FULL_DISK, CLOSED = "a reader that stalls", "a reader that is gone", "a full disk", "no stderr"
SINKS = (STALLED, GONE, FULL_DISK, CLOSED)


class SilentServer:
    """A server process that nobody hears.

    Attributes:
        process: The process.
        address: HOST:PORT of its gRPC service.
        metrics_url: URL of /metrics.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, metrics_port: int) -> None:
        self.process = process
        self.address = f"127.0.0.1:{port}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition; fails if the process ends or takes longer than `START_S`."""
        give_up_at = time.monotonic() + START_S
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode} before it {what}"
            assert time.monotonic() < give_up_at, f"not in time: {what}"
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Waits until health says SERVING."""
        self.wait_until(lambda: check_health(self.address, timeout_s=1), "is SERVING")

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def server_with_sink(sink: str, model_repo: Path, *args: str) -> Iterator[SilentServer]:
    """Starts a server whose stderr is one of `SINKS`; it is killed on leaving if it has not ended."""
    port, metrics_port = free_ports(2)
    command = [
        *(sys.executable, "-m", "ferserve_server", "--model-repo", str(model_repo), "--default-model", "fer-nano"),
        *(
            "--listen",
            f"127.0.0.1:{port}",
            "--metrics-listen",
            f"127.0.0.1:{metrics_port}",
            "--http-listen",
            "off",
        ),
        *("--bucket-sizes", "1,8", "--precision", "float32", "--tune", "fixed", "--repository-poll-s", "0.1"),
        *args,
    ]
    with contextlib.ExitStack() as opened:
        if sink == CLOSED:
            process = subprocess.Popen(["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command])
        elif sink == FULL_DISK:
            process = subprocess.Popen(command, stderr=opened.enter_context(Path("/dev/full").open("wb")))
        else:
            reader, writer = os.pipe()
            if sink == GONE:
                os.close(reader)
            else:
                opened.callback(os.close, reader)
                _fill(writer)
            process = subprocess.Popen(command, stderr=writer)
            os.close(writer)
        try:
            yield SilentServer(process, port, metrics_port)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _fill(writer: int) -> None:
    """Fills a pipe, so that the next write to it blocks."""
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
