"""Finds faces with YuNet.

Source: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20 (2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ferserve_vision.detectors.search import search
from ferserve_vision.detectors.yunet_file import read_yunet
from ferserve_vision.geometry import Box, Detection, Landmarks, Point
from ferserve_vision.opencv import cv2
from ferserve_vision.options import DetectorDefaults

if TYPE_CHECKING:
    from ferserve_vision.opencv import GreyImage
    from ferserve_vision.options import DetectionOptions

YUNET_DEFAULTS: Final = DetectorDefaults(detection_side_pixels=480, min_face_pixels=16)
"""At 480 pixels all labelled faces are found for a quarter of the time that 640 take (docs/performance.md)."""

_NMS_THRESHOLD: Final = 0.3
_MAX_CANDIDATES: Final = 1000
"""Maximum number of boxes before suppression. Crowds of 100 faces give about 600."""

_STRIDE_PIXELS: Final = 32
"""Coarsest stride of the network, which pads pictures to a multiple of it."""


_STEPS_PER_PIXEL: Final = 16
"""Resolution of places. Networks of different engines differ by 1e-5 pixels, which would show in crops."""


class YunetNetwork(Protocol):
    """Runs YuNet's network. One thread at a time."""

    def run(self, image: GreyImage, score_threshold: float) -> list[list[float]]:
        """Finds faces.

        Args:
            image: uint8 [H, W], sides that 32 divides.
            score_threshold: Lowest score.

        Returns:
            Rows of 15: left, top, width, height, x and y of five points, score.
        """


class OpenCvNetwork:
    """Implements `YunetNetwork` with OpenCV's `FaceDetectorYN`. One thread at a time."""

    def __init__(self, model: bytes) -> None:
        """Loads the ONNX file's content (about 5 ms)."""
        self._network: Any = cv2.FaceDetectorYN.create(
            "onnx",
            np.frombuffer(model, np.uint8),
            np.empty(0, np.uint8),
            (320, 320),
            nms_threshold=_NMS_THRESHOLD,
            top_k=_MAX_CANDIDATES,
        )
        self._size = (320, 320)

    def run(self, image: GreyImage, score_threshold: float) -> list[list[float]]:
        """Finds faces; see `YunetNetwork`."""
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._network.setInputSize(size)
            self._size = size
        self._network.setScoreThreshold(score_threshold)
        _, rows = self._network.detect(cv2.merge((image, image, image)))
        return [] if rows is None else rows.tolist()


class YunetDetector:
    """YuNet with its buffers. Gives boxes, scores and landmarks.

    Thread-safety: one thread at a time. Every thread makes its own.
    """

    def __init__(self, network: YunetNetwork | None = None) -> None:
        """Takes the network over.

        Args:
            network: Runs the network; None runs the installed wheel's file in OpenCV.

        Raises:
            YunetUnavailableError: `network` is None and the file is not there.
        """
        self._network = OpenCvNetwork(read_yunet()) if network is None else network

    @property
    def defaults(self) -> DetectorDefaults:
        """Sizes that hold where the options name none."""
        return YUNET_DEFAULTS

    def detect(self, image: GreyImage, options: DetectionOptions) -> list[Detection]:
        """Finds the faces of uint8 [H, W], largest first."""
        smallest = YUNET_DEFAULTS.min_face_of(options)

        def find(copy: GreyImage) -> list[Detection]:
            if 2 * min(copy.shape) < smallest:
                return []  # no half of a face fits
            height, width = copy.shape
            # Padded here: pictures of similar shape then reuse the network's buffers.
            bottom, right = -copy.shape[0] % _STRIDE_PIXELS, -copy.shape[1] % _STRIDE_PIXELS
            if bottom or right:
                copy = cv2.copyMakeBorder(copy, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
            rows = self._network.run(copy, options.score_threshold)
            found = [_detection(row) for row in rows if _is_plausible(row, width, height)]
            return [each for each in found if max(each.box.width, each.box.height) >= smallest]

        return search(image, options, YUNET_DEFAULTS.side_of(options), find)


def _is_plausible(row: list[float], width: int, height: int) -> bool:
    """Returns whether a box has its centre in the picture and is at most twice as large.

    OpenCV reads memory that it never wrote for one in a thousand strips of a pixel: boxes 200,000 pixels high.
    """
    if not np.isfinite(row).all():
        return False
    left, top, box_width, box_height = row[:4]
    longest = 2 * max(width, height)
    is_inside = 0 <= left + box_width / 2 <= width and 0 <= top + box_height / 2 <= height
    return is_inside and 0 < box_width <= longest and 0 < box_height <= longest


def _detection(row: list[float]) -> Detection:
    """Reads one row: box, eyes, nose and mouth corners, score.

    The network lists the person's own right eye and mouth corner first, which are on the viewer's left.
    """
    places = [round(value * _STEPS_PER_PIXEL) / _STEPS_PER_PIXEL for value in row[:14]]
    points = (Point(places[at], places[at + 1]) for at in range(4, 14, 2))
    return Detection(Box(*places[:4]), min(1.0, max(0.0, row[14])), Landmarks(*points))
