"""Defines faces as models take them, and the options of their detection.

Faces as the models take them.

How to look for faces.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FACE_SIDE_PIXELS: Final = 48
"""Side of the square crops that FER-2013 nets take."""

FER_2013_LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The classes of FER-2013, in the order of its label numbers 0 to 6."""

FaceCrop = npt.NDArray[np.uint8]
"""One face: uint8 [H, W], grey levels 0-255."""

CropBatch = npt.NDArray[np.uint8]
"""Faces in the model's input form: uint8 [N, H, W, 1], grey levels 0-255, N >= 1."""

Scores = npt.NDArray[np.float32]
"""Calibrated probabilities: float32 [N, K]; each row sums to 1; columns follow the model's labels."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A rectangle in the pixels of the picture as shown; `left` and `top` from 0, sides from 1."""

    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Area in pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How to look for the faces of a picture.

    Attributes:
        whole_image: The picture is one face; nothing is searched.
        detection_side_pixels: The search runs on a copy with at most this longer side, 64 or more.
        min_face_pixels: Smallest face to look for in that copy, 16-4096.
        scale_factor: Step between the searched sizes, 1.05-2.0; smaller ones search a picture for seconds.
        min_neighbors: Overlapping hits that make a face, 1-100.
        crop_margin: Border added around a box before it is classified, as a share of its side, 0.0-1.0.
    """

    whole_image: bool = False
    detection_side_pixels: int = 640
    min_face_pixels: int = 40
    scale_factor: float = 1.1
    min_neighbors: int = 5
    crop_margin: float = 0.0
