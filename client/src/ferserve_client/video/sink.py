"""Where annotated frames go: a file, a window."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Self

from ferserve_client.video.opencv import load_cv2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt


class VideoFile:
    """An MP4 file that is being written. Its size is that of the first frame. Not thread-safe.

    Args:
        path: The file; one that is there is overwritten.
        fps: Frames a second, above 0.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._cv2 = load_cv2()
        self._path = path
        self._fps = fps
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Add a frame: uint8 [H, W, 3], blue, green, red.

        Raises:
            OSError: The file cannot be written.
        """
        if self._writer is None:
            height, width = pixels.shape[:2]
            code = self._cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = self._cv2.VideoWriter(str(self._path), code, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"{self._path}: cannot be written as a video")
        self._writer.write(pixels)

    def close(self) -> None:
        """Finish the file. Without this it cannot be played."""
        if self._writer is not None:
            self._writer.release()


class Window:
    """A window that shows frames. To be used on the main thread.

    Args:
        title: What stands above it.
    """

    def __init__(self, title: str) -> None:
        self._cv2 = load_cv2()
        self._title = title

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cv2.destroyWindow(self._title)

    def show(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Show a frame: uint8 [H, W, 3]. False once the user has pressed Q or Escape."""
        self._cv2.imshow(self._title, pixels)
        return self._cv2.waitKey(1) & 0xFF not in {ord("q"), 27}


def can_show_windows() -> bool:
    """Whether there is a display, and an OpenCV that can open windows on it."""
    if not has_display(os.environ, sys.platform):
        return False
    cv2 = load_cv2()
    title = "ferserve"
    try:
        cv2.namedWindow(title)
        cv2.destroyWindow(title)
    except cv2.error:  # the headless build has no windows
        return False
    return True


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Whether there is a display. Asked first, because Qt ends the process where there is none."""
    if platform in {"darwin", "win32"}:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
