"""Options of a search for faces, the same for every detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_vision.geometry import Box


@dataclass(frozen=True, slots=True)
class HaarOptions:
    """Options of the Haar cascade alone.

    Attributes:
        scale_factor: Step between the searched sizes, 1.05-2.0. Smaller finds more and costs more.
        min_neighbors: Overlapping hits that make a face, 1-100. Higher invents fewer faces and misses more.
    """

    scale_factor: float = 1.1
    min_neighbors: int = 5


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Options of a search for faces. A 0 takes the detector's own default, named by its `defaults`.

    Attributes:
        detection_side_pixels: The search runs on a copy with at most this longer side, 64 or more.
        min_face_pixels: Smallest face to look for, longer side in pixels of that copy.
        score_threshold: Lowest score of a face that is returned, above 0.0 to 1.0. Detectors without scores
            ignore it.
        region: Part of the picture to search, in its pixels; None searches all of it.
        tiles: Search overlapping tiles at full resolution as well, for small faces in crowds.
        haar: Options of the Haar cascade.
    """

    detection_side_pixels: int = 0
    min_face_pixels: int = 0
    score_threshold: float = 0.8
    region: Box | None = None
    tiles: bool = False
    haar: HaarOptions = field(default_factory=HaarOptions)


@dataclass(frozen=True, slots=True)
class DetectorDefaults:
    """Sizes that a detector takes where the options name none.

    Attributes:
        detection_side_pixels: Longer side of the copy that is searched.
        min_face_pixels: Smallest face in that copy.
    """

    detection_side_pixels: int
    min_face_pixels: int

    def side_of(self, options: DetectionOptions) -> int:
        """Returns the longer side of the copy that is searched, in pixels."""
        return options.detection_side_pixels or self.detection_side_pixels

    def min_face_of(self, options: DetectionOptions) -> int:
        """Returns the smallest face to look for in that copy, in pixels."""
        return options.min_face_pixels or self.min_face_pixels
