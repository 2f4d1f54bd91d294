"""Searches one decoded frame: all of it, or small regions at a fixed size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.face import BoundingBox
from ferserve_server.domain.ports import FoundFaces
from ferserve_server.tracking.boxes import Box, Detection
from ferserve_server.tracking.ports import FoundFrame
from ferserve_server.tracking.search import THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH
from ferserve_server.vision.crop import crop_face, to_model_input
from ferserve_server.vision.opencv import GreyImage, cv2

if TYPE_CHECKING:
    from ferserve_server.domain.detection import DetectionOptions
    from ferserve_server.tracking.finder import FollowedFaces
    from ferserve_server.tracking.search import Thumbnail
    from ferserve_server.vision.pool import FaceDetector

LOCAL_SIDE_PIXELS: Final = 128
"""Side of the copy of a region that is searched. The face fills 43 of its pixels a side."""

HIGH_SCORE: Final = 0.7
"""Score from which a detection counts as certain."""


class DecodedFrame:
    """Implements `tracking.finder.FrameView` on grey pixels. One thread at a time.

    Args of the constructor:
        grey: uint8 [H, W].
        shown_size: Width and height of the picture in pixels; `grey` may have been decoded reduced.
        options: How to look for faces.
        detector: Searches the full frame.
        local_detector: Searches regions. A network keeps buffers for one size, so that one detector for both
            would make them for every frame.
    """

    def __init__(
        self,
        grey: GreyImage,
        shown_size: tuple[int, int],
        options: DetectionOptions,
        detector: FaceDetector,
        local_detector: FaceDetector,
    ) -> None:
        self._grey = grey
        self._options = options
        self._detector = detector
        self._local_detector = local_detector
        self._scale = grey.shape[1] / shown_size[0]
        self.size = shown_size

    @property
    def high_score(self) -> float:
        """Score from which a detection counts as certain, 0.0 to 1.0."""
        return HIGH_SCORE

    @property
    def max_local_searches(self) -> int:
        """Number of local searches that cost as much as a search of the full frame."""
        height, width = self._grey.shape
        side = min(self._options.detection_side_pixels, max(height, width))
        searched_pixels = side * side * min(height, width) / max(height, width)
        return max(1, int(searched_pixels / LOCAL_SIDE_PIXELS**2))

    def thumbnail(self) -> Thumbnail:
        """Shrinks the frame to uint8 [THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH]."""
        shrunk: Thumbnail = cv2.resize(
            self._grey, (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA
        )
        return shrunk

    def search(self, region: Box | None, score_threshold: float) -> list[Detection]:
        """Finds the faces of a square region, or of the full frame, from a score on."""
        del score_threshold
        if self._options.whole_image:
            return [Detection(Box(0.0, 0.0, *map(float, self.size)), 1.0)]
        if region is None:
            boxes = self._detector.detect(self._grey, self._options, self.size)
            return [Detection(Box(each.left, each.top, each.width, each.height)) for each in boxes]
        return self._search_region(region)

    def _search_region(self, region: Box) -> list[Detection]:
        left, top = round(region.left * self._scale), round(region.top * self._scale)
        side = max(1, round(region.width * self._scale))
        inside = self._grey[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        if not inside.size:
            return []
        left, top = max(0, left), max(0, top)
        scale = LOCAL_SIDE_PIXELS / side
        size = max(1, round(inside.shape[1] * scale)), max(1, round(inside.shape[0] * scale))
        copy = np.zeros((LOCAL_SIDE_PIXELS, LOCAL_SIDE_PIXELS), np.uint8)
        size = min(size[0], LOCAL_SIDE_PIXELS), min(size[1], LOCAL_SIDE_PIXELS)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        copy[: size[1], : size[0]] = cv2.resize(inside, size, interpolation=how)
        local = replace(self._options, detection_side_pixels=LOCAL_SIDE_PIXELS, min_face_pixels=24)
        shown = 1 / (scale * self._scale)
        return [
            Detection(
                Box(
                    each.left * shown + left / self._scale,
                    each.top * shown + top / self._scale,
                    each.width * shown,
                    each.height * shown,
                )
            )
            for each in self._local_detector.detect(copy, local)
        ]


def found_frame(
    grey: GreyImage,
    followed: FollowedFaces,
    options: DetectionOptions,
    shown_size: tuple[int, int],
    max_faces: int,
) -> FoundFrame:
    """Cuts out the faces that tracking shows.

    Args:
        grey: uint8 [H, W].
        followed: Those faces.
        options: How to cut them out.
        shown_size: Width and height of the picture in pixels.
        max_faces: Largest number of faces that are kept, the largest; the others are counted.
    """
    shown = sorted(followed.tracks, key=lambda track: (-track.motion.box.area, track.track_id))
    kept = shown[:max_faces]
    found = [(track, track.detection) for track in kept if track.detection is not None]
    boxes = tuple(inside(track.motion.box, shown_size) for track, _ in found)
    crops = tuple(
        to_model_input(grey)
        if options.whole_image
        else crop_face(grey, inside(detection.box, shown_size), options.crop_margin, shown_size)
        for _, detection in found
    )
    carried = tuple(
        (track.track_id, inside(track.motion.box, shown_size)) for track in kept if track.detection is None
    )
    width, height = shown_size
    faces = FoundFaces(width, height, boxes, crops, len(shown) - len(kept), 0.0, 0.0)
    return FoundFrame(faces, tuple(track.track_id for track, _ in found), carried, followed.ended)


def inside(box: Box, shown_size: tuple[int, int]) -> BoundingBox:
    """Rounds a box to whole pixels inside the picture."""
    width, height = shown_size
    left, top = min(max(round(box.left), 0), width - 1), min(max(round(box.top), 0), height - 1)
    right, bottom = min(round(box.left + box.width), width), min(round(box.top + box.height), height)
    return BoundingBox(left=left, top=top, width=max(1, right - left), height=max(1, bottom - top))
