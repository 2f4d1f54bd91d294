"""Writes the tables of the results of detection.py. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving_tables import short, table

if TYPE_CHECKING:
    from collections.abc import Mapping


def detection_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the tables of benchmarks/results/detection.json."""
    lines: list[str] = []
    if "pictures" in document:
        heads = ["detector", "faces found", "false boxes", "a picture"]
        rows = [
            [name, f"{each['found']} of {each['expected']}", str(each["false"]), f"{short(each['ms'])} ms"]
            for name, each in document["pictures"].items()
        ]
        lines += table(heads, rows)
    for clip, figures in document["clips"].items():
        heads = [f"detector, {clip}", "false boxes per 100 frames", "certain faces missed", "a frame"]
        rows = [
            [
                name,
                f"{each['false'] * 100 / each['pictures']:.1f}",
                f"{each['missed_certain']} of {each['certain']}",
                f"{short(each['ms'])} ms",
            ]
            for name, each in figures.items()
        ]
        lines += ["", *table(heads, rows)]
    return lines
