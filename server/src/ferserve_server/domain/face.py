"""Defines faces in the form that models take, and the options of their detection."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
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

Between an engine and the pipeline there is one column more where the version detects non-faces
(`ModelDescription.score_column_count`); `pipeline.decisions` takes it off.
"""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """Describes a rectangle in the pixels of the picture as shown; `left` and `top` from 0, sides from 1."""

    left: int
    top: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Returns the area in pixels."""
        return self.width * self.height


class Point(NamedTuple):
    """Describes a point in the pixels of the picture as shown; it may lie outside."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Holds five points of a face. Left and right are the viewer's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class FaceLocation:
    """Describes a detected face.

    Attributes:
        box: Rectangle around the face, inside the picture.
        score: Confidence of the detector, 0.0 to 1.0; 1.0 for whole pictures, 0.0 from detectors that give none.
        landmarks: Eyes, nose and mouth, or None from detectors that give none.
    """

    box: BoundingBox
    score: float = 1.0
    landmarks: Landmarks | None = None


class NotAFacePolicy(Enum):
    """Defines the treatment of boxes whose crop the model takes for something other than a face."""

    DROP = "drop"
    MARK = "mark"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class HaarOptions:
    """Holds the options of the Haar cascade alone.

    Attributes:
        scale_factor: Step between the searched sizes, 1.05-2.0; smaller ones search a picture for seconds.
        min_neighbors: Overlapping hits that make a face, 1-100.
    """

    scale_factor: float = 1.1
    min_neighbors: int = 5


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Holds the options of face detection in a picture.

    Attributes:
        whole_image: The picture is one face; nothing is searched.
        detector: Name of the detector, such as "yunet"; None takes the server's.
        detection_side_pixels: The search runs on a copy with at most this longer side, 64 or more; 0 takes the
            detector's default.
        min_face_pixels: Smallest face to look for in that copy, 16-4096; 0 takes the detector's default.
        score_threshold: Lowest detector score of a face, above 0.0 to 1.0.
        max_faces: Largest number of faces that are returned; 0 takes the server's limit.
        region: Only this part of the picture is searched; None searches all of it.
        tiles: Overlapping tiles at full resolution are searched as well.
        not_a_face_policy: Treatment of boxes that the model takes for no face.
        haar: Options of the Haar cascade.
    """

    whole_image: bool = False
    detector: str | None = None
    detection_side_pixels: int = 0
    min_face_pixels: int = 0
    score_threshold: float = 0.8
    max_faces: int = 0
    region: BoundingBox | None = None
    tiles: bool = False
    not_a_face_policy: NotAFacePolicy = NotAFacePolicy.DROP
    haar: HaarOptions = field(default_factory=HaarOptions)
