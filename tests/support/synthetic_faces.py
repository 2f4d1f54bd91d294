"""Simulates faces that move on known paths, and frames of them without pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.tracking.boxes import Box, Detection
from ferserve_server.tracking.search import THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.tracking.lifecycle import Track
    from ferserve_server.tracking.search import Thumbnail


@dataclass
class SyntheticView:
    """Implements `tracking.finder.FrameView`: a search finds the faces whose middle is in the region.

    Attributes:
        faces: The faces of the frame.
        scene: Seed of the background.
        searches: Regions that were searched; None for the full frame.
    """

    faces: Sequence[Detection]
    scene: int = 0
    size: tuple[int, int] = (1280, 720)
    high_score: float = 0.7
    max_local_searches: int = 8
    searches: list[Box | None] = field(default_factory=list)

    def thumbnail(self) -> Thumbnail:
        return np.random.default_rng(self.scene).integers(
            0, 256, (THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH), dtype=np.uint8
        )

    def search(self, region: Box | None, score_threshold: float) -> list[Detection]:
        self.searches.append(region)
        return [
            face
            for face in self.faces
            if (face.score >= score_threshold or face.score == 0.0)
            and (region is None or _holds(region, face.box))
        ]


def _holds(region: Box, box: Box) -> bool:
    x, y = box.center
    return region.left <= x <= region.left + region.width and region.top <= y <= region.top + region.height


def face_at(x: float, y: float, side: float = 100.0, score: float = 0.9) -> Detection:
    """Makes a face with its middle at `x`, `y`."""
    return Detection(Box(float(x - side / 2), float(y - side / 2), float(side), float(side)), float(score))


def id_at(tracks: Sequence[Track], box: Box) -> int | None:
    """Returns the number of the track that was found at exactly this box."""
    return next(
        (each.track_id for each in tracks if each.detection is not None and each.detection.box == box), None
    )
