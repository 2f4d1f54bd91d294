"""Frames of a video file, a camera or a stream."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ferserve_client.video.opencv import load_cv2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

FALLBACK_FPS = 25.0
"""Frames a second of a video that does not tell its rate."""


class VideoUnreadableError(OSError):
    """The video, camera or stream cannot be opened."""


class SourceKind(StrEnum):
    """Where a video comes from."""

    FILE = "file"
    CAMERA = "camera"
    URL = "url"


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame as it was read."""

    index: int
    """Number of the frame in the video, from 0."""
    time_s: float
    """Files: the video's clock, index / frames a second. Others: seconds since the first frame."""
    pixels: npt.NDArray[np.uint8]
    """uint8 [H, W, 3], blue, green, red; 0 to 255."""


def kind_of(where: str) -> SourceKind:
    """What a word names: digits a camera by its index, something with `://` a URL, else a file."""
    if where.isdecimal():
        return SourceKind.CAMERA
    return SourceKind.URL if "://" in where else SourceKind.FILE


class VideoSource:
    """An open video, camera or stream.

    Thread-safe in so far as one thread may read while another closes: OpenCV itself crashes then.

    Args:
        where: A file, the index of a camera, or a URL.

    Raises:
        MissingExtraError: OpenCV is not installed.
        VideoUnreadableError: It cannot be opened.
    """

    def __init__(self, where: str) -> None:
        cv2 = load_cv2()
        self.kind = kind_of(where)
        if self.kind is SourceKind.FILE and not Path(where).is_file():
            raise VideoUnreadableError(f"{where}: no such file")
        self._lock = threading.Lock()
        self._capture: Any = cv2.VideoCapture(int(where) if self.kind is SourceKind.CAMERA else where)
        if not self._capture.isOpened():
            raise VideoUnreadableError(f"{where}: cannot be opened as a {self.kind}")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if math.isfinite(fps) and fps > 0 else FALLBACK_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if self.kind is SourceKind.FILE and count > 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file or the camera back, once a frame that is being read is there."""
        with self._lock:
            self._capture.release()

    @property
    def live(self) -> bool:
        """Whether frames are lost if nobody reads them in time."""
        return self.kind is not SourceKind.FILE

    def frames(self) -> Iterator[VideoFrame]:
        """The frames, until the video ends or is closed."""
        index = 0
        began = 0.0
        while (pixels := self._read()) is not None:
            now = time.monotonic()
            if index == 0:
                began = now
            yield VideoFrame(index, now - began if self.live else index / self.fps, pixels)
            index += 1

    def _read(self) -> npt.NDArray[np.uint8] | None:
        with self._lock:
            found, pixels = self._capture.read()
        return pixels if found else None
