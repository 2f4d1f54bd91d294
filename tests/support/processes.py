"""Finds the processes of a server by the module that each runs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

FRONT = "ferserve_server.app.worker_main"
ENGINE = "ferserve_server.app.engine_main"

END_S = 60.0
"""A process whose parent has ended takes milliseconds to end; test machines are busy."""


def children(*modules: str, of: int | None = None) -> dict[int, str]:
    """Child processes that run one of these modules, any without one, by process id, with their state (Z: ended).

    Args:
        modules: Such as `FRONT` and `ENGINE`.
        of: Their parent; this process if None.
    """
    parent = os.getpid() if of is None else of
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, its_parent = _stat(int(entry.name))
                arguments = (entry / "cmdline").read_text().split("\0")
                if its_parent == parent and (not modules or any(module in arguments for module in modules)):
                    found[int(entry.name)] = state
    return found


def runs(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def wait_for_end(*pids: int) -> None:
    """Waits until all of these processes have ended, whoever their parent is. Blocking."""
    give_up_at = time.monotonic() + END_S
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < give_up_at, f"still there: {left}"
        time.sleep(0.05)


def named_shared_memory(pid: int) -> list[str]:
    """Shared memory with a name that a process has mapped. It would stay behind when that is killed."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if "/dev/shm/" in line and not line.endswith("(deleted)")]  # noqa: S108 - looked for


def served_connections(pid: int, port: int) -> set[int]:
    """The callers' ports of all TCP connections that a process has accepted on a port of its own."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(entry.readlink().name)
    callers = set()
    for table in ("tcp", "tcp6"):  # gRPC listens on IPv4 through a socket of the other kind
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            local_port, remote_port = (int(fields[column].rpartition(":")[2], 16) for column in (1, 2))
            if local_port == port and remote_port and f"socket:[{fields[9]}]" in held:
                callers.add(remote_port)
    return callers


def _stat(pid: int) -> tuple[str, int]:
    """State and parent, as proc(5) has them."""
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)
