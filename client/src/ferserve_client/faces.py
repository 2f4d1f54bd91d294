"""What faces show and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_client.errors import FerserveError
    from ferserve_client.servables import Servable


class Emotion(StrEnum):
    """The classes of FER-2013, in their canonical order.

    A server's labels are strings, because a model may have other classes; these compare equal to
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
    """What one face shows."""

    emotion: str
    """The most probable class, one of the model's labels."""
    confidence: float
    """Its calibrated probability, 0 to 1."""
    scores: Mapping[str, float]
    """Calibrated probability of every class, 0 to 1, in the order of the model's labels; sum 1."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A rectangle in the pixels of the picture as shown (after its EXIF rotation)."""

    left: int
    """Distance of the left edge from the picture's left edge, in pixels, 0 or more."""
    top: int
    """Distance of the top edge from the picture's top edge, in pixels, 0 or more."""
    width: int
    """In pixels, 1 or more."""
    height: int
    """In pixels, 1 or more."""


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face that was found in a picture. Exactly one of `prediction` and `error` is set."""

    box: BoundingBox
    """Where it is."""
    prediction: Prediction | None = None
    """What it shows."""
    error: FerserveError | None = None
    """Why this face has no prediction. Its neighbours are not affected."""


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """What was found in one picture, or in `error` why it could not be read.

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
    """Why this picture has no analysis. Its neighbours are not affected."""
