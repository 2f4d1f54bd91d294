"""Positions of faces in pictures, in pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle. `left` and `top` may be negative: detectors complete faces that the border cuts."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def mapped(self, x_scale: float, y_scale: float, left: float = 0.0, top: float = 0.0) -> Box:
        """Scales the box, then moves it by `left` and `top`."""
        return Box(
            self.left * x_scale + left, self.top * y_scale + top, self.width * x_scale, self.height * y_scale
        )

    def overlap(self, other: Box) -> float:
        """Measures the area shared with another box, in square pixels."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


class Point(NamedTuple):
    """A point; it may lie outside the picture."""

    x: float
    y: float

    def mapped(self, x_scale: float, y_scale: float, left: float = 0.0, top: float = 0.0) -> Point:
        """Scales the point, then moves it by `left` and `top`."""
        return Point(self.x * x_scale + left, self.y * y_scale + top)


class Landmarks(NamedTuple):
    """Five points of a face. Left and right are the viewer's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point

    def mapped(self, x_scale: float, y_scale: float, left: float = 0.0, top: float = 0.0) -> Landmarks:
        """Scales all points, then moves them by `left` and `top`."""
        return Landmarks(*(point.mapped(x_scale, y_scale, left, top) for point in self))


@dataclass(frozen=True, slots=True)
class Detection:
    """A face that a detector found.

    Attributes:
        box: The face, in pixels of the picture that was searched.
        score: Confidence of the detector, 0.0 to 1.0; 0.0 from detectors that give none.
        landmarks: Eyes, nose and mouth, or None from detectors that give none.
    """

    box: Box
    score: float = 0.0
    landmarks: Landmarks | None = None

    def mapped(self, x_scale: float, y_scale: float, left: float = 0.0, top: float = 0.0) -> Detection:
        """Scales box and landmarks, then moves them by `left` and `top`."""
        if (x_scale, y_scale, left, top) == (1.0, 1.0, 0.0, 0.0):
            return self
        return replace(
            self,
            box=self.box.mapped(x_scale, y_scale, left, top),
            landmarks=None if self.landmarks is None else self.landmarks.mapped(x_scale, y_scale, left, top),
        )
