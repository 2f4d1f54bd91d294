"""Starts servers under test as processes: ferserve with a real model, with one that takes no time, and an echo."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from load.process_tree import SERVER_TAG, processes_of, start_ticks
from load.running import with_benchmarks_on_path

from ferserve_server.runtime.grpc_polling import choose_polling
from ferserve_server.services.health import check_health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

PATIENCE_S = 180.0
"""Longest start: one takes 5 s on an idle machine, and much longer where other work goes first."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Describes a server that answers.

    Attributes:
        address: HOST:PORT.
        pid: Its first process.
        tag: What marks all its processes; see `load.process_tree`.
    """

    address: str
    pid: int
    tag: str


class NotStartedError(Exception):
    """Reports that a server did not start; the text has the end of its output."""


def free_port() -> int:
    """Returns a loopback port without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def server_command(
    command: Sequence[str],
    address: str,
    is_ready: Callable[[str], bool],
    log_path: Path,
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    longest_remaining_s: float = PATIENCE_S,
) -> Iterator[RunningServer]:
    """Runs a command until the block is left, and everything that it has started.

    Raises:
        NotStartedError: It ended, or was not ready in time.
    """
    tag = uuid.uuid4().hex
    environment = {**(with_benchmarks_on_path() if env is None else env), SERVER_TAG: tag}
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=cwd)
        try:
            give_up_at = time.monotonic() + longest_remaining_s
            while not is_ready(address):
                if process.poll() is not None:
                    raise NotStartedError(f"ended with exit code {process.returncode}: {_tail(log_path)}")
                if time.monotonic() > give_up_at:
                    raise NotStartedError(f"not ready within {longest_remaining_s:g} s: {_tail(log_path)}")
                time.sleep(0.05)
            yield RunningServer(address, process.pid, tag)
        finally:
            _end(process, tag)


@contextlib.contextmanager
def paused_between_runs(server: RunningServer) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Halts a server (SIGSTOP) outside its own runs: some servers work when idle, or for callers that have left.

    Yields:
        What runs it for the time of a block. It runs again when the outer block is left.
    """

    @contextlib.contextmanager
    def resumed() -> Iterator[None]:
        _signal_all(server, signal.SIGCONT)
        try:
            yield
        finally:
            _signal_all(server, signal.SIGSTOP)

    _signal_all(server, signal.SIGSTOP)
    try:
        yield resumed
    finally:
        _signal_all(server, signal.SIGCONT)


def _signal_all(server: RunningServer, number: signal.Signals) -> None:
    for pid in processes_of(server.pid, server.tag):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _end(process: subprocess.Popen[bytes], tag: str) -> None:
    """Stops the process gracefully, then the processes that it left behind."""
    started = {pid: start_ticks(pid) for pid in processes_of(process.pid, tag)}
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    for pid, ticks in started.items():
        if ticks and start_ticks(pid) == ticks:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def _tail(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[-300:] if lines else "it wrote nothing"


@contextlib.contextmanager
def ferserve(
    repository: Path,
    log_path: Path,
    flags: Sequence[str] = (),
    *,
    model: str = "fer-nano",
    checkout: Path | None = None,
) -> Iterator[RunningServer]:
    """Runs `ferserve-server` on one address, without HTTP and metrics unless the flags say so.

    With `checkout` the server is the one of another version of the sources.
    """
    address = f"127.0.0.1:{free_port()}"
    fixed = ["--model-repo", str(repository), "--default-model", model, "--listen", address]
    off = [part for flag in ("--http-listen", "--metrics-listen") if flag not in flags for part in (flag, "off")]
    command = [sys.executable, "-m", "ferserve_server", *fixed, *off, *flags]
    with server_command(command, address, is_serving, log_path, env=with_sources_of(checkout)) as server:
        yield server


def with_sources_of(checkout: Path | None) -> dict[str, str]:
    """Returns the environment with another checkout's server, stubs and benchmarks first on the path."""
    environment = with_benchmarks_on_path()
    if checkout is not None:
        rooms = [str(checkout / room) for room in ("server/src", "proto/src", "benchmarks")]
        environment["PYTHONPATH"] = os.pathsep.join([*rooms, environment["PYTHONPATH"]])
    return environment


@contextlib.contextmanager
def null_ferserve(
    repository: Path,
    log_path: Path,
    flags: Sequence[str] = (),
    *,
    batch_ms: float = 0.0,
    executors: int = 0,
    checkout: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[RunningServer]:
    """Runs ferserve with a model that computes nothing and takes `batch_ms` for every batch; see `null_server`.

    With `checkout` the server is the one of another version of the sources. `variables` go into its environment.
    """
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "null_server", str(batch_ms), str(executors), "--listen", address]
    command += ["--model-repo", str(repository), *flags]
    environment = {**with_sources_of(checkout), **(variables or {})}
    with server_command(command, address, is_serving, log_path, env=environment) as server:
        yield server


@contextlib.contextmanager
def echo(log_path: Path, *, polls_as_ferserve: bool = False) -> Iterator[RunningServer]:
    """Runs the bare server; see `echo_server`. gRPC in it is as it comes, or chooses as ferserve does."""
    address = f"127.0.0.1:{free_port()}"
    environment = with_benchmarks_on_path()
    if polls_as_ferserve:
        choose_polling(environment)
    command = [sys.executable, "-m", "echo_server", address]
    with server_command(command, address, is_listening, log_path, env=environment) as server:
        yield server


def is_listening(address: str) -> bool:
    """Returns whether the address accepts connections."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def is_serving(address: str) -> bool:
    """Returns whether the standard health service says SERVING for the whole server."""
    return is_listening(address) and check_health(address, timeout_s=1)


def copy_model(model: Path, repository: Path) -> Path:
    """Makes a folder with one version of one model, so that no other takes memory; returns the folder."""
    target = repository / model.parent.name / model.name
    if not target.exists():
        shutil.copytree(model, target)
    return repository
