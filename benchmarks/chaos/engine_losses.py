"""Kills and stops engines under load, with and without a standby, by benchmarks/engine_losses.py."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from loads import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SECONDS_PER_LOSS: Final = 3.0
MAX_KILLS, MAX_HANGS = 50, 20


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Loses as many engines as the time allows, two in seven of them by a hang."""
    losses = seconds / SECONDS_PER_LOSS / 2
    kills = min(MAX_KILLS, max(1, round(losses * 5 / 7)))
    hangs = min(MAX_HANGS, max(1, round(losses * 2 / 7)))
    report = work / "losses.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "engine_losses.py"), "--output", str(report)]
    subprocess.run(
        [*command, "--kills", str(kills), "--hangs", str(hangs)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=3 * seconds + 300,
    )
    found: dict[str, Any] = json.loads(report.read_text())
    return {name: found[name] for name in ("kills", "hangs", "by_standby_count")}
