"""Computes the effect of swaps on callers from the records of their calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Answer:
    """Records the outcome of one request. Times are seconds since 1970.

    Attributes:
        kind: Which of the loads it belongs to.
        due_s: When it was to be sent. Latency counts from here, so that no wait for an earlier answer is hidden.
        sent_s: When it was sent.
        answered_s: When its answer was there.
        version: The version that answered; 0 with `error`.
        mixed: Whether its scores are not all of that version's making.
        error: The reason of a failure, or "".
    """

    kind: str
    due_s: float
    sent_s: float
    answered_s: float
    version: int
    mixed: bool
    error: str

    @property
    def latency_ms(self) -> float:
        """Returns the time from when it was due to its answer."""
        return (self.answered_s - self.due_s) * 1e3


@dataclass(frozen=True, slots=True)
class Swap:
    """Records one version change: manifest published, version ready, old one unloaded. Seconds since 1970."""

    version: int
    published_s: float
    ready_s: float
    unloaded_s: float


def went_back(answers: Iterable[Answer]) -> int:
    """Requests answered by an older version than an answer that was there before they were sent."""
    events = [(answer.answered_s, 0, answer.version) for answer in answers if not answer.error]
    events += [(answer.sent_s, 1, answer.version) for answer in answers if not answer.error]
    newest = count = 0
    for _, is_request, version in sorted(events):
        if is_request:
            count += version < newest
        else:
            newest = max(newest, version)
    return count


def latency_figures(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Computes count, median, 99th percentile and maximum, in milliseconds."""
    if not latencies_ms:
        return {"count": 0}
    p50, p99 = np.percentile(latencies_ms, (50, 99))
    return {
        "count": len(latencies_ms),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(max(latencies_ms), 2),
    }


def swap_figures(answers: Sequence[Answer], swaps: Sequence[Swap]) -> dict[str, Any]:
    """Computes the figures of a run: failures, and latency during version changes and outside them.

    A request belongs to a swap if any part of its life, from due to answered, lies between the manifest's
    appearing and the unloading of the old version.
    """
    good = [answer for answer in answers if not answer.error]
    latency: dict[str, Any] = {}
    for kind in ("all", *sorted({answer.kind for answer in good})):
        sides: dict[bool, list[float]] = {True: [], False: []}
        for answer in good:
            if kind in {"all", answer.kind}:
                sides[_during(answer, swaps)].append(answer.latency_ms)
        during, outside = latency_figures(sides[True]), latency_figures(sides[False])
        latency[kind] = {"during": during, "outside": outside}
        if during["count"] and outside["count"]:
            latency[kind]["p99_ratio"] = round(during["p99_ms"] / outside["p99_ms"], 2)
    reasons = [answer.error for answer in answers if answer.error]
    return {
        "swaps": len(swaps),
        "requests": len(answers),
        "failed_requests": len(reasons),
        "failures": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "mixed_version_requests": sum(answer.mixed for answer in good),
        "requests_that_went_back": went_back(good),
        "versions_seen": len({answer.version for answer in good}),
        "swap_s": span_figures([swap.unloaded_s - swap.published_s for swap in swaps]),
        "publish_to_ready_s": span_figures([swap.ready_s - swap.published_s for swap in swaps]),
        "latency": latency,
        "by_swap": [_one_swap(swap, good) for swap in swaps],
    }


def _one_swap(swap: Swap, good: Iterable[Answer]) -> dict[str, float]:
    """Measures a swap's duration and its worst call: latency, and due time after the publication."""
    calls = [answer for answer in good if _during(answer, [swap])]
    worst = max(calls, key=lambda answer: answer.latency_ms, default=None)
    return {
        "ready_s": round(swap.ready_s - swap.published_s, 2),
        "unloaded_s": round(swap.unloaded_s - swap.published_s, 2),
        "calls": len(calls),
        "worst_ms": round(worst.latency_ms, 1) if worst else 0.0,
        "worst_due_s": round(worst.due_s - swap.published_s, 2) if worst else 0.0,
    }


def span_figures(spans_s: Sequence[float]) -> dict[str, float]:
    """Computes median and maximum of spans, in seconds."""
    return {"median": round(float(np.median(spans_s)), 2), "max": round(max(spans_s), 2)}


def swap_table(figures: Mapping[str, Any]) -> list[str]:
    """Returns the figures as lines of Markdown."""
    lines = [
        "| requests | during swaps: p50 | p99 | max | else: p50 | p99 | max | ratio of the p99s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, sides in figures["latency"].items():
        cells = [
            f"{sides[side].get(name, float('nan')):.1f} ms"
            for side in ("during", "outside")
            for name in ("p50_ms", "p99_ms", "max_ms")
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} | {sides.get('p99_ratio', float('nan')):.2f} |")
    return lines


def _during(answer: Answer, swaps: Sequence[Swap]) -> bool:
    return any(answer.answered_s >= swap.published_s and answer.due_s <= swap.unloaded_s for swap in swaps)
