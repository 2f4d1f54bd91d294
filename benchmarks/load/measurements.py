"""Records the outcomes of a load's calls, and computes figures from them. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 2**20


@dataclass(slots=True)
class Measurements:
    """Records the calls of one part, in the order of their ends. Times are of one clock, in seconds.

    Attributes:
        due_s: When each was to be sent. Latency counts from here, so that the client's own delay counts.
        sent_s: When it was sent.
        ended_s: When its answer or its error was there.
        codes: "" for an answer, else the code of the error.
    """

    due_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def record(self, due_s: float, sent_s: float, ended_s: float, code: str = "") -> None:
        """Records a call."""
        self.due_s.append(due_s)
        self.sent_s.append(sent_s)
        self.ended_s.append(ended_s)
        self.codes.append(code)


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Computes median, 95th and 99th percentile and maximum, in milliseconds; empty without values."""
    if not len(seconds):
        return {}
    values = np.asarray(seconds) * 1e3
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    figures = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": values.max()}
    return {name: round(float(value), 2) for name, value in figures.items()}


def part_figures(measurements: Measurements, faces: int, begun_s: float, over_s: float) -> dict[str, Any]:
    """Returns the figures of one part.

    Args:
        measurements: Its calls.
        faces: Faces in each.
        begun_s: Calls that ended before this do not count.
        over_s: Nor do those that ended after this.

    Returns:
        Rates are per second of the window; `errors` counts by code; `rejected` is how long errors took from when
        they were sent; `late_p99_ms` is how long the client itself kept calls waiting.
    """
    counted = [at for at, ended_s in enumerate(measurements.ended_s) if begun_s <= ended_s < over_s]
    answered = [at for at in counted if not measurements.codes[at]]
    failed = [at for at in counted if measurements.codes[at]]
    seconds = over_s - begun_s
    late = percentiles_ms([measurements.sent_s[at] - measurements.due_s[at] for at in counted])
    return {
        "calls_per_s": round(len(answered) / seconds, 1),
        "faces_per_s": round(len(answered) * faces / seconds, 1),
        **percentiles_ms([measurements.ended_s[at] - measurements.due_s[at] for at in answered]),
        "errors": dict(Counter(measurements.codes[at] for at in failed)),
        "rejected": percentiles_ms([measurements.ended_s[at] - measurements.sent_s[at] for at in failed]),
        "late_p99_ms": late.get("p99_ms", 0.0),
    }


def cpu_s_per_1000_faces(cpu_s: float, faces: float) -> float | None:
    """Computes processor seconds for a thousand faces; None without faces."""
    return round(cpu_s / faces * 1e3, 6) if faces else None


def load_figures(parts: Mapping[str, Mapping[str, Any]], seconds: float, server_cpu_s: float) -> dict[str, Any]:
    """Returns the figures of all parts together."""
    faces_per_s = sum(part["faces_per_s"] for part in parts.values())
    return {
        "faces_per_s": round(faces_per_s, 1),
        "errors": dict(sum((Counter(part["errors"]) for part in parts.values()), Counter())),
        "server_cores": round(server_cpu_s / seconds, 3),
        "cpu_s_per_1000_faces": cpu_s_per_1000_faces(server_cpu_s, faces_per_s * seconds),
    }
