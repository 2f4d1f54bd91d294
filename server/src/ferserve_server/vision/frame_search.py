"""Finds the faces of a stream's frame: in the whole frame, or in small regions at a fixed size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.ports import FoundFaces
from ferserve_server.tracking.boxes import Box, Detection
from ferserve_server.tracking.ports import FoundFrame
from ferserve_server.tracking.search import THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH
from ferserve_vision import geometry
from ferserve_vision.crop import crop_face, to_model_input
from ferserve_vision.opencv import cv2

if TYPE_CHECKING:
    from ferserve_server.domain.face import FaceLocation
    from ferserve_server.tracking.lifecycle import Track
    from ferserve_server.tracking.ports import FrameRequest
    from ferserve_server.tracking.search import Thumbnail
    from ferserve_server.vision.picture_reader import DecodedPicture, PictureReader
    from ferserve_vision.detectors.port import FaceDetector
    from ferserve_vision.opencv import GreyImage

LOCAL_SIDE_PIXELS: Final = 96
"""Side of the copy of a region that is searched: the face has 38 of its pixels. Of 176 faces of a video YuNet
finds 97 % again; with 128 pixels as many for 1.4 times the time, with 64 78 %."""

LOCAL_MIN_FACE_PIXELS: Final = 20
"""Smallest face in that copy: a head that moved back by nearly half since the frame before."""


def find_in_frame(reader: PictureReader, request: FrameRequest) -> FoundFrame:
    """Decodes a frame and finds its faces, with the tracks of its stream if it has any.

    Args:
        reader: Decodes and detects.
        request: The frame.

    Raises:
        FerserveError: As `PictureReader.find`.
    """
    if request.finder is None:
        return FoundFrame(reader.find(request.image, request.options))
    started = reader.clock()
    with reader.decoded(request.image, request.options) as picture:
        decoded = reader.clock()
        local = None if picture.detector is None else reader.local_detector(request.options)
        view = PictureView(picture, local, request.options.score_threshold)
        followed = request.finder.find(view, request.time_s)
        shown = sorted(followed.tracks, key=lambda track: (-track.motion.box.area, track.track_id))
        kept = shown[: reader.max_faces(request.options)]
        found = [(track, track.detection) for track in kept if track.detection is not None]
        width, height = picture.shown_size
        faces = FoundFaces(
            width,
            height,
            tuple(view.location(track, detection) for track, detection in found),
            tuple(view.crop(detection) for _, detection in found),
            len(shown) - len(kept),
            decoded - started,
            reader.clock() - decoded,
        )
        carried = tuple((track.track_id, view.location(track).box) for track in kept if track.detection is None)
    return FoundFrame(faces, tuple(track.track_id for track, _ in found), carried, followed.ended)


class PictureView:
    """Implements `tracking.finder.FrameView` on a decoded picture. One thread at a time.

    Args of the constructor:
        picture: The picture, with the detector that searches all of it; without one the whole picture is a face.
        local_detector: Searches regions, wherever the picture has a detector.
        high_score: Score from which a detection counts as certain, 0.0 to 1.0.
    """

    def __init__(self, picture: DecodedPicture, local_detector: FaceDetector | None, high_score: float) -> None:
        self._picture = picture
        self._grey: GreyImage = picture.grey
        self._local_detector = local_detector
        self._scale = picture.shown_size[0] / picture.grey.shape[1]
        self.size = picture.shown_size
        self.high_score = high_score

    @property
    def max_local_searches(self) -> int:
        """Returns the number of local searches that cost as much as one of the full frame."""
        detector = self._picture.detector
        if detector is None:
            return 0
        height, width = self._grey.shape
        side = min(detector.defaults.side_of(self._picture.options), max(height, width))
        searched_pixels = side * side * min(height, width) / max(height, width)
        return max(1, int(searched_pixels / LOCAL_SIDE_PIXELS**2))

    def thumbnail(self) -> Thumbnail:
        """Shrinks the frame to uint8 [THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH]."""
        # Four samples a side for each pixel are enough to average noise, and cost a tenth of reading them all.
        height, width = self._grey.shape
        step = max(1, min(width // (4 * THUMBNAIL_WIDTH), height // (4 * THUMBNAIL_HEIGHT)))
        samples = np.ascontiguousarray(self._grey[::step, ::step])
        shrunk: Thumbnail = cv2.resize(samples, (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT), interpolation=cv2.INTER_AREA)
        return shrunk

    def search(self, region: Box | None, score_threshold: float) -> list[Detection]:
        """Finds the faces of a square region, or of the full frame, from a score on."""
        picture = self._picture
        if picture.detector is None:
            return [Detection(Box(0.0, 0.0, *map(float, self.size)), 1.0)]
        if region is None:
            options = replace(picture.options, score_threshold=score_threshold)
            return [self._shown(each) for each in picture.detector.detect(self._grey, options)]
        return [each for each in self._search_region(region, score_threshold) if self._may_be_returned(each)]

    def location(self, track: Track, detection: Detection | None = None) -> FaceLocation:
        """Places a face in the picture: the box as the motion model smooths it, the rest as it was detected."""
        box = track.motion.box
        shown = Detection(box) if detection is None else replace(detection, box=box)
        return self._picture.location(self._in_grey(shown))

    def crop(self, detection: Detection) -> GreyImage:
        """Cuts a face out: uint8 [48, 48]."""
        if self._picture.detector is None:
            return to_model_input(self._grey)
        return crop_face(self._grey, self._in_grey(detection))

    def _search_region(self, region: Box, score_threshold: float) -> list[Detection]:
        if self._local_detector is None:
            return []
        left, top = round(region.left / self._scale), round(region.top / self._scale)
        side = max(1, round(region.width / self._scale))
        inside = self._grey[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
        if not inside.size:
            return []
        # Always of one size, because a network makes its buffers again for every other one.
        copy = np.zeros((LOCAL_SIDE_PIXELS, LOCAL_SIDE_PIXELS), np.uint8)
        scale = LOCAL_SIDE_PIXELS / side
        height, width = (min(LOCAL_SIDE_PIXELS, max(1, round(length * scale))) for length in inside.shape)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        copy[:height, :width] = cv2.resize(inside, (width, height), interpolation=how)
        options = replace(
            self._picture.options,
            detection_side_pixels=LOCAL_SIDE_PIXELS,
            min_face_pixels=LOCAL_MIN_FACE_PIXELS,
            score_threshold=score_threshold,
            region=None,
            tiles=False,
        )
        found = self._local_detector.detect(copy, options)
        return [self._shown(each.mapped(1 / scale, 1 / scale, max(0, left), max(0, top))) for each in found]

    def _may_be_returned(self, detection: Detection) -> bool:
        """Returns whether the middle of a face is in the part of the picture that the options name."""
        region = self._picture.options.region
        if region is None:
            return True
        x, y = (each / self._scale for each in detection.box.center)
        inside_x = bool(region.left <= x <= region.left + region.width)
        return inside_x and bool(region.top <= y <= region.top + region.height)

    def _shown(self, face: geometry.Detection) -> Detection:
        """Maps a face from pixels of the decoded picture to those of the picture as shown."""
        face = face.mapped(self._scale, self._scale)
        return Detection(Box(*face.box), face.score, face.landmarks)

    def _in_grey(self, face: Detection) -> geometry.Detection:
        """Maps a face back."""
        points = face.landmarks
        landmarks = None if points is None else geometry.Landmarks(*(geometry.Point(*each) for each in points))
        whole = geometry.Detection(geometry.Box(*face.box), face.score, landmarks)
        return whole.mapped(1 / self._scale, 1 / self._scale)
