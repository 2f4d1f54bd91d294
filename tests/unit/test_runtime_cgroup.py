"""Tests reading the limits of control groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferserve_server.runtime.cgroup import available_bytes, cpu_quota, whole_cores

if TYPE_CHECKING:
    from pathlib import Path


def _group(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    return root, tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
        ("0::/not/seen/from/here\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../outside\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/a\n1:name=systemd:/\n",
            {"cpu/a/cpu.cfs_quota_us": "25000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.25,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": "0 0"}, None),
    ],
)
def test_the_quota_is_the_least_of_the_own_group_and_those_above(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    root, proc = _group(tmp_path, own, files)
    assert cpu_quota(root, proc) == quota


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"), [(64, None, 64), (64, 0.5, 1), (64, 1.5, 2), (2, 8.0, 2), (1, 0.1, 1)]
)
def test_threads_are_planned_for_the_cores_that_there_is_time_for(
    affinity: int, quota: float | None, cores: int
) -> None:
    assert whole_cores(affinity, quota) == cores


def test_free_memory_is_the_least_of_the_machine_and_the_group(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   1048576 kB\n")
    files = {"memory.max": "max", "a/memory.max": "536870912", "a/memory.current": "268435456"}
    root, proc = _group(tmp_path, "0::/a\n", files)
    assert available_bytes(root, proc, meminfo) == 256 << 20
    (root / "a" / "memory.stat").write_text("anon 5\ninactive_file 1048576\n")
    assert available_bytes(root, proc, meminfo) == 257 << 20
    assert available_bytes(tmp_path / "none", proc, meminfo) == 1 << 30
    assert available_bytes(tmp_path / "none", proc, tmp_path / "none") == 0


def test_what_this_machine_says_can_be_read() -> None:
    assert available_bytes() > 0
