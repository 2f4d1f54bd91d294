"""The table of the results of pictures.py. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving_tables import short, table

if TYPE_CHECKING:
    from collections.abc import Mapping


def pictures_table(document: Mapping[str, Any]) -> list[str]:
    """Of benchmarks/results/pictures.json."""
    heads = ["photograph", "file", "decoded at", "in full: decode + search and crop", "as served"]
    heads += ["of the processor time", "boxes", "overlap of the boxes", "crops differ by"]
    rows = []
    for size, figures in document["sizes"].items():
        reduction = figures["reduction"]
        rows.append(
            [
                size,
                f"{figures['file_bytes'] / 1e6:.1f} MB",
                "full size" if reduction == 1 else f"1/{reduction}",
                _cost(figures["full"]),
                _cost(figures["served"]),
                f"{figures['ratio']:.0%}",
                f"{figures['full']['face_count']}, {figures['served']['face_count']}",
                short(figures["box_overlap"]),
                f"{short(figures['crop_difference_levels'])} grey levels",
            ]
        )
    return table(heads, rows)


def _cost(figures: Mapping[str, float]) -> str:
    parts = f"{short(figures['decode_ms'])} + {short(figures['search_and_crop_ms'])}"
    return f"{short(figures['total_ms'])} ms ({parts})"
