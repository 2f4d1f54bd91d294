"""Frames of a video on their way to the server, and what is remembered of them until they are answered."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ferserve_client.answers import Frame, FrameAnswer
from ferserve_client.faces import BoundingBox, DetectedFace, ImageAnalysis
from ferserve_client.video.encoding import FrameEncoder
from ferserve_client.video.source import VideoFrame, VideoSource


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame that was sent."""

    time_s: float
    """The video's clock."""
    width: int
    """Width of the source's frame in pixels, before it was shrunk."""
    height: int
    """Height of the source's frame in pixels."""
    pixels: npt.NDArray[np.uint8] | None
    """uint8 [H, W, 3], blue, green, red. None where nobody draws."""


class Shots:
    """Encodes the frames of a source and keeps what is known of them until their answers come.

    One thread draws `frames`, another calls `answered`.

    Args:
        source: The video.
        encoder: How its frames are sent.
        keep_pixels: Whether the frames themselves are needed again.
        in_real_time: Whether a file's frames are sent no faster than they would be shown.
    """

    def __init__(
        self, source: VideoSource, encoder: FrameEncoder, *, keep_pixels: bool, in_real_time: bool
    ) -> None:
        self._source = source
        self._encoder = encoder
        self._keep_pixels = keep_pixels
        self._in_real_time = in_real_time
        self._sent: dict[int, Shot] = {}  # one thread sets a key before the other can ask for it
        self._working = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """End `frames`, and wait for the frame that is being made.

        A process that ends while another thread is inside OpenCV is aborted.
        """
        with self._working:
            self._closed = True

    def frames(self) -> Iterator[Frame]:
        """The frames as pictures, numbered as in the source."""
        began = time.monotonic()
        source = self._source.frames()
        while True:
            with self._working:
                frame = None if self._closed else next(source, None)
                if frame is None:
                    return
                made = self._make(frame)
            if self._in_real_time:
                time.sleep(max(0.0, began + frame.time_s - time.monotonic()))
            yield made

    def _make(self, frame: VideoFrame) -> Frame:
        height, width = frame.pixels.shape[:2]
        pixels = frame.pixels if self._keep_pixels else None
        self._sent[frame.index] = Shot(frame.time_s, width, height, pixels)
        return Frame(frame.index, self._encoder.encode(frame.pixels))

    def answered(self, answer: FrameAnswer) -> tuple[Shot, FrameAnswer]:
        """The frame of an answer, and the answer in the pixels of the source."""
        shot = self._sent.pop(answer.sequence_id)
        if answer.analysis is None:
            return shot, answer
        return shot, replace(answer, analysis=scaled(answer.analysis, shot.width, shot.height))


def scaled(analysis: ImageAnalysis, width: int, height: int) -> ImageAnalysis:
    """The analysis of a shrunk picture in the pixels of the picture that it was made from.

    Args:
        analysis: What was found.
        width: Width of the original in pixels.
        height: Height of the original in pixels.
    """
    if (analysis.width, analysis.height) == (width, height) or not (analysis.width and analysis.height):
        return analysis
    across, down = width / analysis.width, height / analysis.height
    faces = tuple(replace(face, box=_scaled_box(face, across, down)) for face in analysis.faces)
    return replace(analysis, width=width, height=height, faces=faces)


def _scaled_box(face: DetectedFace, across: float, down: float) -> BoundingBox:
    # Edges are rounded rather than sizes, so that boxes stay inside the picture.
    left, top = round(face.box.left * across), round(face.box.top * down)
    right = round((face.box.left + face.box.width) * across)
    bottom = round((face.box.top + face.box.height) * down)
    return BoundingBox(left, top, max(1, right - left), max(1, bottom - top))
