"""Writes the result of a benchmark as one HTML file."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_client.bench.measurement import Measurement

_STYLE: Final = """
:root { color-scheme: light dark; } body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem;
margin: 2rem auto; padding: 0 1rem; } table { border-collapse: collapse; } th, td { text-align: right;
padding: .25rem .8rem; border-bottom: 1px solid #8885; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } svg { width: 100%; height: auto; }
svg text { fill: currentColor; }
.scroll { overflow-x: auto; }
"""
_COLUMNS: Final = ("load", "calls/s", "items/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "failed", "client busy")


def result_page(title: str, facts: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """Return the page.

    Args:
        title: Heading, such as the capacity that was found.
        facts: What was measured, by name.
        measurements: The loads, in the order of their running.
    """
    listed = "".join(f"<tr><td>{_text(name)}<td>{_text(value)}</tr>" for name, value in facts.items())
    head = "".join(f"<th>{name}" for name in _COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}' for cell in _cells(each))}</tr>" for each in measurements)
    last = next((each for each in reversed(measurements) if each.curve), None)
    curve = "" if last is None else "<h2>Latency by percentile</h2>" + _curve_svg(last.curve)
    rates = [(each.offered_rate or 0.0, each.latencies_ms.get("p99", math.nan)) for each in measurements]
    found = [(rate, p99) for rate, p99 in rates if rate and not math.isnan(p99)]
    sweep = "" if len(found) < 2 else "<h2>p99 by offered rate</h2>" + _points_svg(sorted(found))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style><h1>{_text(title)}</h1>"
        f"<table>{listed}</table><h2>Loads</h2>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{sweep}{curve}'
        "<p>Latencies of open loops count from the scheduled arrival of each call.</p></html>"
    )


def _cells(measurement: Measurement) -> list[str]:
    load = "closed" if measurement.offered_rate is None else f"{measurement.offered_rate:.1f}/s"
    latencies = [measurement.latencies_ms.get(name) for name in ("p50", "p90", "p99", "p99.9")]
    shown = ["" if value is None else f"{value:.1f}" for value in latencies]
    rates = [f"{measurement.calls_per_s:.1f}", f"{measurement.items_per_s:.1f}"]
    return [load, *rates, *shown, str(measurement.failed_count), f"{measurement.client_busy_share:.0%}"]


def _curve_svg(curve: Sequence[tuple[float, float]]) -> str:
    # The axis of the tail: each tenth of the calls that is left gets the same width.
    points = [(-math.log10(max(1e-3, 1 - percentile / 100)), latency) for percentile, latency in curve]
    ticks = [(-math.log10(1 - share), f"{share:.1%}".replace(".0%", "%")) for share in (0.0, 0.9, 0.99, 0.999)]
    return _line_svg(points, ticks, "Latency in milliseconds by percentile")


def _points_svg(points: Sequence[tuple[float, float]]) -> str:
    ticks = [(rate, f"{rate:.0f}/s") for rate, _ in (points[0], points[len(points) // 2], points[-1])]
    return _line_svg(points, ticks, "p99 in milliseconds by offered rate")


def _line_svg(points: Sequence[tuple[float, float]], ticks: Sequence[tuple[float, str]], label: str) -> str:
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top = max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return 60 + 860 * (x - left) / max(right - left, 1e-9), 220 - 200 * y / top

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*each) for each in points))
    dots = "".join(
        f'<circle cx="{place(x, y)[0]:.1f}" cy="{place(x, y)[1]:.1f}" r="3"><title>{y:.1f} ms</title></circle>'
        for x, y in points
    )
    texts = "".join(
        f'<text x="{place(min(x, right), 0)[0]:.0f}" y="240" font-size="12" text-anchor="middle">{name}</text>'
        for x, name in ticks
    )
    axis = f'<text x="0" y="24" font-size="12">{top:.1f}</text><text x="0" y="224" font-size="12">0 ms</text>'
    return (
        f'<svg viewBox="0 0 960 250" role="img" aria-label="{label}; the table has the figures">'
        f'<polyline points="{line}" fill="none" stroke="#38c" stroke-width="2"/><g fill="#38c">{dots}</g>'
        f"{texts}{axis}</svg>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))
