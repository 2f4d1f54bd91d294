"""Measures processor time and memory of a server with all its processes. Linux: proc(5)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

SERVER_TAG = "FERSERVE_BENCH_SERVER"
"""Variable in the environment of a server under test: finds processes that have lost their parent."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def processes_of(pid: int, tag: str) -> set[int]:
    """Returns the process, its descendants, and every process with the tag and its descendants; not this process.

    Raises:
        ValueError: `pid` is 0 or 1.
    """
    if pid <= 1:
        raise ValueError(f"process {pid} is no server's: it is above all others")
    children: dict[int, list[int]] = {}
    found = {pid}
    needle = f"{SERVER_TAG}={tag}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        each = int(entry.name)
        try:
            fields = _stat(each)
            if tag and needle in (entry / "environ").read_bytes().split(b"\0"):
                found.add(each)
        except OSError:  # it ended, or is not ours to look at
            continue
        children.setdefault(int(fields[1]), []).append(each)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    found.discard(os.getpid())
    return found


def cpu_s(pids: set[int]) -> float:
    """Measures processor time of these processes so far, user and system, in seconds.

    Of another process's clock, which glibc's clock_getcpuclockid(3) numbers so: nanoseconds, not 10 ms.
    """
    taken_s = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            taken_s += time.clock_gettime((~pid << 3) | 2)
    return taken_s


def memory_mib(pids: set[int]) -> tuple[float, float]:
    """Measures memory in MiB: `Rss` counts shared pages once a process, `Pss` once in all."""
    rss_kib = pss_kib = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("Rss:"):
                rss_kib += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss_kib += int(line.split()[1])
    return rss_kib / 1024, pss_kib / 1024


def start_ticks(pid: int) -> str:
    """When a process was started: with its number, what tells it from a later one; "" if it is gone."""
    try:
        return _stat(pid)[19]
    except OSError:
        return ""


def machine_ticks() -> tuple[float, float]:
    """Reads the machine's processor time so far, total and used, in seconds; steal counts as used."""
    fields = [int(each) for each in (_PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) / _TICKS_PER_S, (sum(fields) - fields[3] - fields[4]) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat after the command's name: state, parent, ..."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
