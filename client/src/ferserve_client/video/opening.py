"""Opens videos, cameras and streams as sources of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_client.video.camera import Camera
from ferserve_client.video.container import Container
from ferserve_client.video.sources import SourceKind, kind_of

if TYPE_CHECKING:
    from ferserve_client.video.sources import VideoSource


def open_source(where: str, timeout_s: float) -> VideoSource:
    """Open a video file, a camera by its index, or a URL.

    Args:
        where: Name of the source.
        timeout_s: Longest wait for a connection, and for the next frame of a stream.

    Raises:
        MissingExtraError: PyAV, or OpenCV for cameras, is not installed.
        VideoUnreadableError: It cannot be opened.
    """
    return Camera(int(where)) if kind_of(where) is SourceKind.CAMERA else Container(where, timeout_s)
