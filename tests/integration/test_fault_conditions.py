"""Tests a server as containers and service managers run it (faults, what the server must show, 3).

It starts, serves, recovers from a killed engine, and drains: as process 1 of a namespace, as a random user, on a
read-only system with 64 MiB of /dev/shm, under a quota and without stderr; and as systemd starts a service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import EmotionClient, FerserveError
from ferserve_server.services.health import check_health
from support.log_sinks import free_ports
from support.processes import ENGINE, children
from support.server_process import START_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FACES = np.zeros((2, 48, 48), np.uint8)
USER = 23_456
CPU_GROUP = Path("/sys/fs/cgroup/cpu")
"""The controller of version 1; under version 2 groups belong to who manages the machine."""

CONTAINER = """
set -e
mount -t proc proc /proc
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
mount -o remount,bind,ro /
cd /
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search "$@" 2>&-
"""
"""Reading all files is for checkouts below a home folder that is closed to other users."""


@pytest.fixture
def bundled_model() -> Iterator[Path]:
    """A folder of models with the bundled fer-nano alone, which every user can read.

    pytest's folders are closed to others, and TensorFlow asks access(2), which knows no capabilities.
    """
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        repository.chmod(0o755)
        shutil.copytree(Path(__file__).parents[2] / "model_repo" / "fer-nano", repository / "fer-nano")
        yield repository


def command(model_repo: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "ferserve_server", "--model-repo", str(model_repo), "--default-model", "fer-nano"),
        *("--listen", f"127.0.0.1:{port}", "--http-listen", "off", "--metrics-listen", "off"),
        *("--bucket-sizes", "1,8", "--precision", "float32", "--tune", "fixed", "--repository-poll-s", "0"),
    ]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], what: str) -> None:
    give_up_at = time.monotonic() + START_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} before it {what}"
        assert time.monotonic() < give_up_at, f"not in time: {what}"
        time.sleep(0.05)


def answers(address: str) -> bool:
    with EmotionClient(address) as client:
        try:
            return len(client.classify(FACES, timeout_s=10)) == 2
        except FerserveError:
            return False


def serves_and_recovers(process: subprocess.Popen[bytes], server_pid: int, address: str) -> None:
    """Serves, loses its engine, and serves again."""
    assert answers(address)
    (engine,) = children(ENGINE, of=server_pid)
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: answers(address), process, "answers after its engine was killed")
    assert engine not in children(ENGINE, of=server_pid)


@contextlib.contextmanager
def cpu_quota() -> Iterator[list[str]]:
    """Gives what puts a command under a quota of 0.8 cores; nothing where groups cannot be made."""
    group = CPU_GROUP / f"ferserve-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("80000")
    except OSError:
        yield []
        return
    try:
        yield ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    finally:
        with contextlib.suppress(OSError):  # the last process may not be gone yet
            group.rmdir()


def as_container(arguments: Sequence[str]) -> list[str]:
    script = CONTAINER.format(user=USER)
    unshare = ["unshare", "--pid", "--fork", "--mount", "--propagation", "private", "--kill-child"]
    return [*unshare, "/bin/sh", "-c", script, "sh", *arguments]


def reason_to_skip() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "making namespaces needs root on Linux"
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "there is no unshare or setpriv here"
    tried = subprocess.run(as_container(["true"]), capture_output=True, text=True, check=False, timeout=60)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def test_a_server_in_a_container_starts_serves_recovers_and_drains(bundled_model: Path) -> None:
    if reason := reason_to_skip():
        pytest.skip(reason)
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with cpu_quota() as quota:
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [*quota, *as_container(command(bundled_model, port))], env=environment, stdin=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: check_health(address, timeout_s=1), process, "is SERVING")
            (server,) = children(of=process.pid)
            assert f"\nUid:\t{USER}\t" in Path(f"/proc/{server}/status").read_text()
            assert "NSpid:" in (status := Path(f"/proc/{server}/status").read_text())
            assert status.split("NSpid:")[1].splitlines()[0].split()[-1] == "1"
            serves_and_recovers(process, server, address)
            os.kill(server, signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def test_a_server_started_as_systemd_starts_services_drains_when_its_whole_group_gets_the_signal(
    bundled_model: Path,
) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    journal, theirs = socket.socketpair()  # stdout and stderr are a stream socket
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(journal.makefile("rb")))
    process = subprocess.Popen(
        command(bundled_model, port),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "INVOCATION_ID": "0" * 32},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        umask=0o077,
    )
    theirs.close()
    reader.start()
    try:
        wait_until(lambda: check_health(address, timeout_s=1), process, "is SERVING")
        serves_and_recovers(process, process.pid, address)
        os.killpg(process.pid, signal.SIGTERM)  # KillMode=control-group
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        journal.close()
    assert any(b"listening" in line for line in lines)
    assert not any(b"Traceback" in line for line in lines)
