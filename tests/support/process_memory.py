"""Measures the memory of a process and of all its descendants; see proc(5)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def resident_mib(pid: int) -> dict[int, float]:
    """Resident memory in MiB of a process, its children and theirs, by process id, without any that ended."""
    held: dict[int, float] = {}
    with contextlib.suppress(OSError):
        folder = Path(f"/proc/{pid}")
        if found := re.search(r"VmRSS:\s+(\d+) kB", (folder / "status").read_text()):
            held[pid] = int(found[1]) / 1024
        for each in folder.glob("task/*/children"):
            for child in each.read_text().split():
                held |= resident_mib(int(child))
    return held
