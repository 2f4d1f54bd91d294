"""What a caller may choose about a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Priority = Literal["interactive", "bulk"]
"""`interactive`: somebody waits. `bulk`: served after interactive work, and ages into it."""

OverloadPolicy = Literal["latest", "block"]
"""`latest`: the newest frame wins, for live video. `block`: every frame is analysed, for files."""

OnError = Literal["raise", "return"]
"""What becomes of a face that failed alone: raise its error, or put the error in its place."""

FaceSource = Literal["detect", "whole_image"]
"""`detect`: the server looks for faces. `whole_image`: the whole picture is one face."""

DEFAULT_TIMEOUT_S = 10.0
"""Deadline of a unary call, retries included."""

DEFAULT_MAX_UNANSWERED = 16
"""Messages of a stream that may be unanswered at once. Enough to hide a 0.5 s round trip at 30
frames a second, and few enough that a 1 MB frame makes at most 16 MB wait."""


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How to look for faces. A field that is None takes the server's setting of the same name."""

    face_source: FaceSource = "detect"
    """Where the faces come from."""
    detection_side_pixels: int | None = None
    """The picture is searched as a copy with at most this many pixels on its longer side, 64 to the
    server's `max_detection_side_pixels`."""
    min_face_pixels: int | None = None
    """Smallest face to look for, as pixels of the searched copy, 16 to 4096."""
    scale_factor: float | None = None
    """Step between the searched sizes, 1.05 to 2.0. Smaller finds more, costs more."""
    min_neighbors: int | None = None
    """Overlapping hits that make a face, 1 to 100. Higher invents fewer faces and misses more."""
