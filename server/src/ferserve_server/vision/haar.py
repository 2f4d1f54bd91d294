"""Finds faces with OpenCV's Haar cascade (Viola and Jones, 2001; cascade by R. Lienhart)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.face import BoundingBox
from ferserve_server.vision.opencv import GreyImage, cv2

if TYPE_CHECKING:
    from ferserve_server.domain.face import DetectionOptions

FRONTAL_FACE_CASCADE: Final = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
"""Frontal faces, turned by some 20 degrees at most."""


class HaarDetector:
    """A cascade, loaded once (about 11 ms).

    Thread-safety: one thread at a time; OpenCV keeps its work in the classifier. Give every thread its own.
    """

    def __init__(self, cascade: Path = FRONTAL_FACE_CASCADE) -> None:
        """Loads `cascade`.

        Raises:
            FileNotFoundError: There is no cascade at that path.
        """
        if not cascade.is_file():
            raise FileNotFoundError(f"no Haar cascade at {cascade}")
        self._classifier = cv2.CascadeClassifier(str(cascade))

    def detect(
        self, grey: GreyImage, options: DetectionOptions, shown_size: tuple[int, int] | None = None
    ) -> list[BoundingBox]:
        """Finds the faces of a picture.

        The search runs on a copy with at most `options.detection_side_pixels` on the longer side; a smaller
        picture is not enlarged.

        Args:
            grey: uint8 [H, W].
            options: How to search.
            shown_size: Width and height of the picture in pixels, if `grey` was decoded reduced.

        Returns:
            Boxes in the pixels of the picture, inside it, largest first; the same ones for the same picture.
        """
        width, height = shown_size or grey.shape[::-1]
        searched = _at_most(grey, options.detection_side_pixels)
        hits = self._classifier.detectMultiScale(
            searched,
            scaleFactor=options.scale_factor,
            minNeighbors=options.min_neighbors,
            minSize=(options.min_face_pixels, options.min_face_pixels),
        )
        x_scale, y_scale = width / searched.shape[1], height / searched.shape[0]
        boxes = [
            _clipped(x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale, width, height)
            for x, y, w, h in hits
        ]
        return sorted(boxes, key=lambda box: (-box.area, box.top, box.left, box.width))


def _at_most(grey: GreyImage, side: int) -> GreyImage:
    """Shrinks a picture so that its longer side is at most `side` pixels."""
    height, width = grey.shape
    share = side / max(height, width)
    if share >= 1:
        return grey
    size = max(1, round(width * share)), max(1, round(height * share))
    shrunk: GreyImage = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _clipped(left: float, top: float, right: float, bottom: float, width: int, height: int) -> BoundingBox:
    """Rounds a box to whole pixels inside a picture of `width` x `height`, 1 or more a side."""
    x, y = min(max(round(left), 0), width - 1), min(max(round(top), 0), height - 1)
    return BoundingBox(
        left=x,
        top=y,
        width=max(1, min(round(right), width) - x),
        height=max(1, min(round(bottom), height) - y),
    )
