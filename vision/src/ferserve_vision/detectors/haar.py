"""Finds faces with OpenCV's Haar cascade (Viola and Jones, 2001; cascade by R. Lienhart)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ferserve_vision.detectors.search import search
from ferserve_vision.geometry import Box, Detection
from ferserve_vision.opencv import cv2
from ferserve_vision.options import DetectorDefaults

if TYPE_CHECKING:
    from ferserve_vision.opencv import GreyImage
    from ferserve_vision.options import DetectionOptions

FRONTAL_FACE_CASCADE: Final = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
"""Cascade for frontal faces, turned by about 20 degrees at most."""

HAAR_DEFAULTS: Final = DetectorDefaults(detection_side_pixels=640, min_face_pixels=40)


class HaarDetector:
    """A cascade, loaded once (about 11 ms). Gives boxes without scores and landmarks.

    Thread-safety: one thread at a time; OpenCV keeps its work in the classifier. Every thread makes its own.
    """

    def __init__(self, cascade: Path = FRONTAL_FACE_CASCADE) -> None:
        """Loads `cascade`.

        Raises:
            FileNotFoundError: There is no cascade at that path.
        """
        if not cascade.is_file():
            raise FileNotFoundError(f"no Haar cascade at {cascade}")
        self._classifier = cv2.CascadeClassifier(str(cascade))

    @property
    def defaults(self) -> DetectorDefaults:
        """Sizes that hold where the options name none."""
        return HAAR_DEFAULTS

    def detect(self, image: GreyImage, options: DetectionOptions) -> list[Detection]:
        """Finds the faces of uint8 [H, W], largest first; boxes inside another one are dropped."""
        smallest = HAAR_DEFAULTS.min_face_of(options)

        def find(copy: GreyImage) -> list[Detection]:
            hits = self._classifier.detectMultiScale(
                copy,
                scaleFactor=options.haar.scale_factor,
                minNeighbors=options.haar.min_neighbors,
                minSize=(smallest, smallest),
            )
            return [Detection(Box(*map(float, hit))) for hit in hits]

        return search(image, options, HAAR_DEFAULTS.side_of(options), find)
