"""Describes the machine of a benchmark, and the load of other work during it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self


def machine_facts() -> dict[str, object]:
    """Returns day, processor, cores and versions."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "core_count": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "tensorflow": _tensorflow_version(),
        "grpcio": version("grpcio"),
    }


def _tensorflow_version() -> str:
    try:
        return version("tensorflow")
    except PackageNotFoundError:  # the build without GPUs has its own name
        return version("tensorflow-cpu")


class OtherWork:
    """Measures the share of the machine's processor time that other processes used. Linux.

    Steal counts as other work. Source of the columns: proc(5), /proc/stat and /proc/PID/stat.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = (os.getpid(), *pids)

    def __enter__(self) -> Self:
        self._started = (*_machine_ticks(), self._own_ticks())
        return self

    def share(self) -> float:
        """Returns the share since the block was entered, 0 to 1. The processes must still be there."""
        total, idle, own = (
            now - then for now, then in zip((*_machine_ticks(), self._own_ticks()), self._started, strict=True)
        )
        return min(1.0, max(0.0, (total - idle - own) / max(total, 1)))

    def __exit__(self, *_: object) -> None:
        pass

    def _own_ticks(self) -> int:
        ticks = 0
        for pid in self._pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks


def _machine_ticks() -> tuple[int, int]:
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]
