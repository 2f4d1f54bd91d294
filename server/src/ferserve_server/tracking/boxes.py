"""Defines boxes of faces, in pixels of the picture as shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SHARED_AREA: Final = 0.55
"""Share of the smaller box's area, beyond which two boxes are taken for the same face."""


class Box(NamedTuple):
    """Describes a rectangle. `left` and `top` may be negative: detectors complete faces that the border cuts."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Returns the area in square pixels."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """Returns the horizontal and vertical position of the centre."""
        return self.left + self.width / 2, self.top + self.height / 2

    def shared_area(self, other: Box) -> float:
        """Measures the area shared with another box, in square pixels."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def iou(self, other: Box) -> float:
        """Computes the intersection over union with another box, 0.0 to 1.0."""
        shared = self.shared_area(other)
        return shared / (self.area + other.area - shared) if shared else 0.0

    def squared(self, scale: float) -> Box:
        """Makes a square with the same middle and `scale` times the longer side."""
        x, y = self.center
        side = scale * max(self.width, self.height)
        return Box(x - side / 2, y - side / 2, side, side)


@dataclass(frozen=True, slots=True)
class Detection:
    """Describes a face that a detector found in one frame.

    Attributes:
        box: The face, in pixels of the picture as shown.
        score: Confidence of the detector, 0.0 to 1.0; 0.0 from detectors that give none.
        landmarks: Five points as the detector gave them, which tracking passes on, or None.
    """

    box: Box
    score: float = 0.0
    landmarks: tuple[tuple[float, float], ...] | None = None


def one_per_face(detections: Iterable[Detection]) -> list[Detection]:
    """Drops boxes that lie mostly in another one: the lower score, or of equal ones the smaller.

    Returns:
        The rest, best score first.
    """
    kept: list[Detection] = []
    for each in sorted(detections, key=lambda one: (-one.score, -one.box.area, one.box)):
        if all(
            each.box.shared_area(other.box) <= MAX_SHARED_AREA * min(each.box.area, other.box.area)
            for other in kept
        ):
            kept.append(each)
    return kept
