"""Reads the limits of this process's control group, which containers set. Linux; none elsewhere."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """Returns the processors' time that may be used, in cores, such as 0.5; None if there is no quota.

    Reads `cpu.max` of version 2 (docs.kernel.org/admin-guide/cgroup-v2.html) and `cpu.cfs_quota_us` of version 1,
    of the own group and of all above it: the least one holds.
    """
    quotas = []
    for folder in _folders(root, own, "cpu"):
        limit, _, period = _read(folder / "cpu.max").partition(" ")
        if not limit:
            limit, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if limit.isdecimal() and period.isdecimal() and int(limit) > 0 and int(period) > 0:
            quotas.append(int(limit) / int(period))
    return min(quotas, default=None)


def whole_cores(affinity: int, quota: float | None) -> int:
    """Returns the cores to plan threads for: those of the affinity, within the quota rounded up, 1 or more."""
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def available_bytes(root: Path = _ROOT, own: Path = _OWN, meminfo: Path = _MEMINFO) -> int:
    """Returns the memory that is free for this process, in bytes; 0 if that is not known.

    It is what the system has available, within what the control group and those above it have left. Pages of files
    that were read count as used by a group, though they can be dropped: they are added.
    """
    free = [
        int(fields[1]) * 1024
        for line in _read(meminfo).splitlines()
        if (fields := line.split()) and fields[0] == "MemAvailable:" and fields[1].isdecimal()
    ]
    for folder in _folders(root, own, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if limit.isdecimal() and used.isdecimal():
            free.append(max(0, int(limit) - int(used) + _file_bytes(folder)))
    return min(free, default=0)


def _file_bytes(folder: Path) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdecimal():
            return int(value)
    return 0


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of the own group and of those above it, in both versions.

    Within a container just the root may be there.
    """
    for line in _read(own).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base = root
        elif controller in controllers.split(","):
            base = root / controllers
            if not base.is_dir():
                base = root / controller
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for part in (group, *group.parents):
            if ".." not in part.parts:
                yield base / part
    yield root


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""
