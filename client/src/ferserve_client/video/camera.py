"""Reads cameras through OpenCV."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ferserve_client.video.extras import load_cv2
from ferserve_client.video.sources import Damage, VideoFrame, VideoUnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Camera:
    """Reads the frames of a camera. One thread at a time.

    Args:
        index: Index of the camera, from 0.

    Raises:
        MissingExtraError: OpenCV is not installed.
        VideoUnreadableError: The camera cannot be opened.
    """

    live = True
    duration_s: float | None = None
    frame_count: int | None = None

    def __init__(self, index: int) -> None:
        self._index = index
        self._capture: Any = load_cv2().VideoCapture(index)
        self.damage = Damage()
        if not self._capture.isOpened():
            raise VideoUnreadableError(f"{index}: cannot be opened as a camera")

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames.

        Raises:
            VideoUnreadableError: The camera gives no more.
        """
        index, began_s = 0, 0.0
        while True:
            found, pixels = self._capture.read()
            if not found:
                raise VideoUnreadableError(f"camera {self._index} gives no more frames")
            now_s = time.monotonic()
            if index == 0:
                began_s = now_s
            height, width = pixels.shape[:2]
            yield VideoFrame(index, now_s - began_s, (width, height), now_s, lambda kept=pixels: kept)  # type: ignore[misc]  # bound now
            index += 1
