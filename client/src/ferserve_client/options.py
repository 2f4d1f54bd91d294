"""Holds what a caller may choose about a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ferserve_client.faces import BoundingBox

Priority = Literal["interactive", "bulk"]
"""`interactive`: somebody waits. `bulk`: served after interactive work, and ages into it."""

OverloadPolicy = Literal["latest", "every_frame", "max_age"]
"""`latest`: the newest frame wins, for live video. `every_frame`: every frame is analysed and the sender is held
back, for recorded video. `max_age`: as `latest`, and frames older than `max_age_ms` are dropped."""

OnError = Literal["raise", "return"]
"""Treatment of a face that failed alone: raise its error, or put the error in its place."""

FaceSource = Literal["detect", "whole_image"]
"""`detect`: the server looks for faces. `whole_image`: the whole picture is one face."""

Detector = Literal["haar", "haar_alt2", "yunet"]
"""`haar`, `haar_alt2`: OpenCV's cascades, boxes alone. `yunet`: boxes, scores and landmarks."""

NotAFacePolicy = Literal["drop", "mark", "ignore"]
"""Treatment of boxes that the model takes for something other than a face: left out, marked, or as any other."""

DEFAULT_TIMEOUT_S = 10.0
"""Deadline of a unary call, retries included."""

DEFAULT_MAX_UNANSWERED = 16
"""Messages of a stream that may be unanswered at once. Enough to hide a 0.5 s round trip at 30
frames a second, and few enough that a 1 MB frame makes at most 16 MB wait."""


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Sets the search for faces. A field that is None takes the server's setting of the same name."""

    face_source: FaceSource = "detect"
    """Origin of the faces."""
    detection_side_pixels: int | None = None
    """The picture is searched as a copy with at most this many pixels on its longer side, 64 to the
    server's `max_detection_side_pixels`."""
    min_face_pixels: int | None = None
    """Smallest face to look for, as pixels of the searched copy, 16 to 4096."""
    scale_factor: float | None = None
    """Step between the sizes that the Haar cascade searches, 1.05 to 2.0. Smaller finds more, costs more."""
    min_neighbors: int | None = None
    """Overlapping hits of the Haar cascade that make a face, 1 to 100. Higher invents fewer and misses more."""
    detector: Detector | None = None
    """Detector to use."""
    score_threshold: float | None = None
    """Lowest detector score of a face that is returned, above 0 to 1. Detectors without scores ignore it."""
    max_faces: int | None = None
    """Largest number of faces per picture, 1 to the server's `max_faces_per_image`."""
    region: BoundingBox | None = None
    """Only this part of the picture is searched. None: all of it."""
    tiles: bool = False
    """Whether the picture is also searched in tiles at full resolution, which finds small faces in crowds."""
    not_a_face_policy: NotAFacePolicy | None = None
    """Treatment of boxes whose crop is not a face. None: they are left out."""


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """Sets the tracking of faces over frames. A field that is None takes the server's setting of that name."""

    smoothing_half_life_s: float | None = None
    """Half-life of the exponential smoothing of scores, in seconds, above 0 to 10."""
    max_lost_s: float | None = None
    """Time for which a face that is not found keeps its track, in seconds, above 0 to 60."""
    full_search_interval_s: float | None = None
    """Longest time between two searches of the full frame, in seconds, above 0 to 10."""
