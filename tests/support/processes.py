"""What Linux tells of processes; see proc(5)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def children(parent: int) -> dict[int, str]:
    """Child processes by process id, with their state; Z is one that has ended and was not waited for."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, its_parent = _state_and_parent(int(entry.name))
                if its_parent == parent:
                    found[int(entry.name)] = state
    return found


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return _state_and_parent(pid)[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> list[int]:
    """A process, its children and theirs."""
    return [pid, *(each for child in children(pid) for each in family(child))]


def resident_mib(pid: int) -> float:
    """Resident memory of a process, in MiB; 0 of one that has ended."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) / 1024
    return 0.0


def _state_and_parent(pid: int) -> tuple[str, int]:
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)
