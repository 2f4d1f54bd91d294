"""Sends mixed work to one server, and watches its memory and descriptors."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from load.process_tree import processes_of
from loads import ROOT

from chaos.callers import Callers, classify, http_post, open_inference, own_client
from chaos.targets import ferserve

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE_S: Final = 1.0
SETTLING_SHARE: Final = 0.2
"""Share of the time before the first sample: caches fill, and each path runs for the first time."""


def run(seconds: float, work: Path) -> dict[str, Any]:
    """Samples once a second."""
    picture = (ROOT / "tests" / "media" / "astronaut.jpg").read_bytes()
    with ferserve(work / "server.log") as target:
        calls = {
            "gRPC": classify([target.address]),
            "ferserve_client": own_client([target.address]),
            "Open Inference": open_inference([target.address]),
            "HTTP pictures": http_post([target.http], "/v1/analyze", picture),
            "HTTP, broken pictures": http_post([target.http], "/v1/analyze", picture[:5_000]),
            "metrics": http_post([target.metrics], "/metrics", None),
        }
        samples: list[tuple[float, int]] = []
        with Callers(calls) as callers:
            ends_s = time.monotonic() + seconds
            time.sleep(SETTLING_SHARE * seconds)
            while time.monotonic() < ends_s or len(samples) < 4:
                samples.append(_sample(target.process.pid))
                time.sleep(SAMPLE_S)
        exit_code = target.stop() and target.exit_codes[-1]
    return {
        "seconds": round(seconds),
        "memory_mib": first_and_last([memory for memory, _ in samples]),
        "descriptors": first_and_last([count for _, count in samples]),
        "exit_code": exit_code,
        "calls": callers.summary(),
    }


def first_and_last(values: Sequence[float]) -> dict[str, float]:
    """Returns the medians of the first and the last quarter, and the maximum. Pure."""
    quarter = max(1, len(values) // 4)
    return {
        "first": round(statistics.median(values[:quarter]), 1),
        "last": round(statistics.median(values[-quarter:]), 1),
        "max": round(max(values), 1),
    }


def _sample(pid: int) -> tuple[float, int]:
    """Returns MiB (PSS) and open descriptors of a server with all its processes."""
    memory_kib = descriptors = 0
    for each in processes_of(pid, ""):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            memory_kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            descriptors += sum(1 for _ in Path(f"/proc/{each}/fd").iterdir())
        except OSError:  # it has ended
            continue
    return memory_kib / 1024, descriptors
