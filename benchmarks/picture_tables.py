"""Writes the tables of the results of pictures.py. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving_tables import short, table

if TYPE_CHECKING:
    from collections.abc import Mapping


def pictures_table(document: Mapping[str, Any]) -> list[str]:
    """Writes the table of benchmarks/results/pictures.json."""
    heads = ["photograph", "file", "decoded at", "in full: decode + search and crop", "as served", "ratio"]
    rows = [
        [
            size,
            f"{figures['file_bytes'] / 1e6:.1f} MB",
            "full size" if figures["reduction"] == 1 else f"1/{figures['reduction']}",
            _cost(figures["full"]),
            _cost(figures["served"]),
            f"{figures['ratio']:.0%}",
        ]
        for size, figures in document["sizes"].items()
    ]
    return [*table(heads, rows), "", *_faces_table(document)]


def _faces_table(document: Mapping[str, Any]) -> list[str]:
    heads = [f"{document['grain_count']} photographs each", "read", "boxes", "lost"]
    heads += ["overlap with those in full", "crops differ by"]
    labels = {"full": "in full", "served": "as served", "shifted": "in full, shifted by a pixel"}
    rows = []
    for size, figures in document["sizes"].items():
        for way, found in (figures["faces"] or {}).items():
            rows.append(
                [
                    size if way == "full" else "",
                    labels[way],
                    str(found["box_count"]),
                    str(found["lost_count"]),
                    short(found["overlap"]),
                    f"{short(found['crop_difference_levels'])} grey levels",
                ]
            )
    return table(heads, rows)


def _cost(figures: Mapping[str, float]) -> str:
    parts = f"{short(figures['decode_ms'])} + {short(figures['search_and_crop_ms'])}"
    return f"{short(figures['total_ms'])} ms ({parts})"
