"""Describes the machine on which a model's speed depends. Reads Linux's /proc, and knows none elsewhere."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Final

from ferserve_server.runtime.cgroup import cpu_quota, whole_cores

_CPUINFO: Final = Path("/proc/cpuinfo")

_BFLOAT16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})
"""Instruction sets that multiply bfloat16. Without one oneDNN emulates it, far slower than float32."""


_OTHER_NAMES: Final = {"tensorflow": ("tensorflow-cpu",)}
"""Distributions that provide a package of another name."""


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Returns whether the first processor of a /proc/cpuinfo has instructions for bfloat16."""
    return not _BFLOAT16_FLAGS.isdisjoint(_field(cpuinfo, "flags").split())


def read_cpuinfo() -> str:
    """Returns the text of /proc/cpuinfo; "" where there is none."""
    try:
        return _CPUINFO.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def describe_machine(backend: str = "tensorflow") -> str:
    """Names the processor, the usable GPUs and an engine's release, for which measured times hold."""
    names = (backend, *_OTHER_NAMES.get(backend, ()))
    release = next((each for each in map(_release, names) if each), f"no {backend}")
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"{_field(read_cpuinfo(), 'model name')}; {cpu_count()} cores; gpus {gpus} of {visible}; {release}"


def cpu_count() -> int:
    """Returns the cores that this process may use: those of its affinity, within the quota of its control group.

    More threads than a quota has time for wait for each other, and each executor costs memory.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return whole_cores(affinity, cpu_quota())


def _field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _release(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
