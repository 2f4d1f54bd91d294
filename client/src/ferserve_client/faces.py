"""Describes faces: their places, and the expressions that they show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_client.errors import FerserveError
    from ferserve_client.servables import Servable


class Emotion(StrEnum):
    """Names the classes of FER-2013, in their canonical order.

    The labels of a server are strings, because a model may have other classes; these compare equal to
    them: `prediction.emotion == Emotion.HAPPY`, `prediction.scores[Emotion.HAPPY]`.
    """

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Holds the apparent expression of one face."""

    emotion: str
    """The most probable class, one of the model's labels."""
    confidence: float
    """Its calibrated probability, 0 to 1."""
    scores: Mapping[str, float]
    """Calibrated probability of every class, 0 to 1, in the order of the model's labels; sum 1."""
    uncertain: bool = False
    """True where `confidence` is below the version's threshold. The emotion is then a guess."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """Marks a rectangle in the pixels of the picture as shown (after its EXIF rotation)."""

    left: int
    """Distance of the left edge from the picture's left edge, in pixels, 0 or more."""
    top: int
    """Distance of the top edge from the picture's top edge, in pixels, 0 or more."""
    width: int
    """In pixels, 1 or more."""
    height: int
    """In pixels, 1 or more."""


Point = tuple[float, float]
"""x and y in pixels of the picture as shown; may lie outside it."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Marks five points of a face. Left and right are the viewer's."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """Describes a face that was found in a picture. Exactly one of `prediction` and `error` is set."""

    box: BoundingBox
    """Its place."""
    prediction: Prediction | None = None
    """Its apparent expression; smoothed over the track where tracking is on."""
    error: FerserveError | None = None
    """Reason for which this face has no prediction. Its neighbours are not affected."""
    score: float = 0.0
    """Confidence of the detector that the box holds a face, 0 to 1. 0 from detectors that give none."""
    landmarks: Landmarks | None = None
    """Eyes, nose and corners of the mouth. None where the detector gives none."""
    not_a_face: bool = False
    """True where the model takes the crop for something other than a face (`not_a_face_policy="mark"` only)."""
    raw: Prediction | None = None
    """Prediction of this frame alone. None where tracking is off."""
    track_id: int = 0
    """Number of the face's track, 1 or more, unique within the stream. 0 where tracking is off."""


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """Holds the faces of one picture, or in `error` the reason for which it could not be read.

    No face is an analysis with empty `faces`, not an error.
    """

    width: int = 0
    """Width of the picture as shown, in pixels. 0 with `error`."""
    height: int = 0
    """Height of the picture as shown, in pixels. 0 with `error`."""
    faces: tuple[DetectedFace, ...] = ()
    """The faces, largest first."""
    omitted_face_count: int = 0
    """Faces found beyond the server's limit and therefore not classified. The largest are kept."""
    servable: Servable | None = None
    """The model and version that answered. None with `error`."""
    error: FerserveError | None = None
    """Reason for which this picture has no analysis. Its neighbours are not affected."""
