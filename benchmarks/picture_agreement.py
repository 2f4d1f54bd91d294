"""Compares the boxes and crops of the same photographs, read in two ways. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_vision.crop import FaceCrop
    from ferserve_vision.geometry import Box

SAME_FACE: Final = 0.3
"""Least intersection over union of two boxes that are taken to hold the same face."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Holds the faces of one photograph: `crops[i]`, uint8 [48, 48], shows `boxes[i]`."""

    boxes: Sequence[Box]
    crops: Sequence[FaceCrop]


def agreement(expected: Sequence[Faces], found: Sequence[Faces]) -> dict[str, Any]:
    """Compares photograph by photograph.

    Returns:
        How many boxes were found; how many that were expected have none (`lost`); the mean intersection over union
        of the others, and the mean difference of their crops in grey levels, None without any.
    """
    overlaps, differences, lost = [], [], 0
    for theirs, ours in zip(expected, found, strict=True):
        for box, crop in zip(theirs.boxes, theirs.crops, strict=True):
            shares = [overlap(box, other) for other in ours.boxes]
            nearest = max(range(len(shares)), key=shares.__getitem__, default=None)
            if nearest is None or shares[nearest] < SAME_FACE:
                lost += 1
                continue
            overlaps.append(shares[nearest])
            differences.append(float(np.abs(crop.astype(int) - ours.crops[nearest]).mean()))
    return {
        "box_count": sum(len(each.boxes) for each in found),
        "lost_count": lost,
        "overlap": round(statistics.fmean(overlaps), 3) if overlaps else None,
        "crop_difference_levels": round(statistics.fmean(differences), 2) if differences else None,
    }


def overlap(one: Box, other: Box) -> float:
    """Computes intersection over union, 0 to 1."""
    both = one.overlap(other)
    return both / (one.area + other.area - both)
