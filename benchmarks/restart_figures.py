"""Computes the effect of restarts on callers from the records of their calls. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from swap_figures import latency_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swap_figures import Answer


class Restart(NamedTuple):
    """Records one restart: SIGTERM sent, and in the proxy's rotation again. Seconds since 1970."""

    stop_s: float
    back_s: float


def restart_figures(answers: Sequence[Answer], restarts: Sequence[Restart]) -> dict[str, Any]:
    """Computes failures, and latencies during restarts and outside them.

    Args:
        answers: The calls.
        restarts: The restarts, which do not overlap.
    """
    good = [answer for answer in answers if not answer.error]
    failures: dict[str, int] = {}
    for answer in answers:
        if answer.error:
            failures[answer.error] = failures.get(answer.error, 0) + 1
    latency = {}
    for kind in sorted({answer.kind for answer in good}):
        sides: dict[str, Any] = {}
        for side, wanted in (("during", True), ("outside", False)):
            found = [each.latency_ms for each in good if each.kind == kind and _during(each, restarts) is wanted]
            sides[side] = latency_figures(found)
        if sides["during"].get("p99_ms") and sides["outside"].get("p99_ms"):
            sides["p99_ratio"] = round(sides["during"]["p99_ms"] / sides["outside"]["p99_ms"], 2)
        latency[kind] = sides
    return {
        "restarts": len(restarts),
        "mean_restart_s": round(sum(each.back_s - each.stop_s for each in restarts) / len(restarts), 2),
        "calls": len(answers),
        "failed_calls": sum(failures.values()),
        "failures": failures,
        "latency": latency,
    }


def restart_table(figures: dict[str, Any]) -> list[str]:
    """Returns the latencies as lines of Markdown."""
    lines = ["| calls | in restarts: p50 | p99 | max | else: p50 | p99 | max | ratio of the p99s |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for kind, sides in figures["latency"].items():
        cells = [
            f"{sides[side].get(name, float('nan')):.1f} ms"
            for side in ("during", "outside")
            for name in ("p50_ms", "p99_ms", "max_ms")
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} | {sides.get('p99_ratio', float('nan')):.2f} |")
    return lines


def _during(answer: Answer, restarts: Sequence[Restart]) -> bool:
    return any(answer.answered_s >= restart.stop_s and answer.due_s <= restart.back_s for restart in restarts)
