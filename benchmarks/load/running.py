"""Runs loads from the scripts, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from load.plan import Part, Plan

BENCHMARKS = Path(__file__).resolve().parent.parent
GRPC_CHOICES = "GRPC_EXPERIMENTS"
_GRACE_S = 120.0
"""How much longer than its seconds a load may take, where other work has most of the machine."""


def with_benchmarks_on_path() -> dict[str, str]:
    """This process's environment, with which a child finds these modules.

    Without what ferserve's transport has chosen for gRPC in this process: each server and each load chooses again.
    """
    paths = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name != GRPC_CHOICES}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def run_load(
    address: str, server_pid: int, server_tag: str, parts: tuple[Part, ...], *, warm_s: float, measure_s: float
) -> dict[str, Any]:
    """Sends a load and returns its figures; see `load.__main__`.

    Raises:
        RuntimeError: The load's process failed; the text has the end of what it wrote.
    """
    plan = Plan(address, server_pid, server_tag, parts, warm_s, measure_s)
    done = subprocess.run(
        [sys.executable, "-m", "load"],
        input=plan.to_json(),
        capture_output=True,
        text=True,
        check=False,
        env=with_benchmarks_on_path(),
        timeout=warm_s + measure_s + _GRACE_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
