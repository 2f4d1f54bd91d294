"""How to look for faces."""

from dataclasses import dataclass


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
