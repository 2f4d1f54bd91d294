"""Options of a search for faces."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_server.domain.face import BoundingBox


class DetectorName(Enum):
    """Face detectors; the values are their names in settings and JSON."""

    YUNET = "yunet"
    HAAR = "haar"


class NotAFacePolicy(Enum):
    """Treatment of boxes whose crop the model takes for something other than a face."""

    DROP = "drop"
    MARK = "mark"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class HaarOptions:
    """Options of the Haar cascade alone.

    Attributes:
        scale_factor: Step between the searched sizes, 1.05-2.0; smaller ones search a picture for seconds.
        min_neighbors: Overlapping hits that make a face, 1-100.
    """

    scale_factor: float = 1.1
    min_neighbors: int = 5


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Options of a search for the faces of a picture.

    Attributes:
        whole_image: The picture is one face; nothing is searched.
        detector: The detector; None takes the server's.
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
    detector: DetectorName | None = None
    detection_side_pixels: int = 0
    min_face_pixels: int = 0
    score_threshold: float = 0.8
    max_faces: int = 0
    region: BoundingBox | None = None
    tiles: bool = False
    not_a_face_policy: NotAFacePolicy = NotAFacePolicy.DROP
    haar: HaarOptions = field(default_factory=HaarOptions)
