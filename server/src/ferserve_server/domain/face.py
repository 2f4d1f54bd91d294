"""Faces as the models take them."""

from dataclasses import dataclass
from typing import Final, NamedTuple

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
"""Calibrated probabilities: float32 [N, K]; each row sums to 1; columns follow the model's labels.

Between an engine and the pipeline there is one column more where the version tells what is no face
(`ModelDescription.score_column_count`); `pipeline.decisions` takes it off.
"""


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


class Point(NamedTuple):
    """A point in the pixels of the picture as shown; it may lie outside."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Five points of a face. Left and right are the viewer's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class FaceLocation:
    """A face that was found.

    Attributes:
        box: Rectangle around the face, inside the picture.
        score: Confidence of the detector, 0.0 to 1.0; 1.0 for whole pictures, 0.0 from detectors that give none.
        landmarks: Eyes, nose and mouth, or None from detectors that give none.
    """

    box: BoundingBox
    score: float = 1.0
    landmarks: Landmarks | None = None
