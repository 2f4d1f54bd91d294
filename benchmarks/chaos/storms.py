"""Floods a server with impatient callers, and with one caller of many streams, by benchmarks/impatience.py."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from loads import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LOADS: Final = 6
"""Loads that impatience.py measures, each once."""

WARM_S: Final = 0.5


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Measures each load for its part of the time."""
    report = work / "storms.json"
    measure_s = max(0.5, seconds / LOADS - WARM_S - 1.5)
    command = [sys.executable, str(ROOT / "benchmarks" / "impatience.py"), "--output", str(report)]
    command += ["--rounds", "1", "--measure-s", f"{measure_s:.1f}", "--warm-s", str(WARM_S)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=3 * seconds + 300)
    found: dict[str, Any] = json.loads(report.read_text())
    return {name: found[name] for name in ("measure_s", "peaks", "loads")}
