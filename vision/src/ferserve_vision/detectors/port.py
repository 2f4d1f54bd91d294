"""The port that detectors implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ferserve_vision.geometry import Detection
    from ferserve_vision.opencv import GreyImage
    from ferserve_vision.options import DetectionOptions, DetectorDefaults


class FaceDetector(Protocol):
    """Finds faces in pictures. One thread at a time: every thread makes its own."""

    @property
    def defaults(self) -> DetectorDefaults:
        """Sizes that hold where the options name none."""

    def detect(self, image: GreyImage, options: DetectionOptions) -> list[Detection]:
        """Finds the faces of a picture.

        Args:
            image: uint8 [H, W], grey levels 0-255.
            options: How to search.

        Returns:
            Faces in pixels of `image`, largest first; the same ones for the same picture.
        """
