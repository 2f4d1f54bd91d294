"""Makes a short video from one picture: the camera moves over it and zooms in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def write_video(picture: Path, video: Path, *, frame_count: int = 60, frames_per_s: float = 24.0) -> None:
    """Writes an MP4 of 480 x 480 pixels.

    Args:
        picture: A picture with a face near its middle.
        video: Where to write.
        frame_count: Frames, 2 or more.
        frames_per_s: Frames a second.

    Raises:
        OSError: The picture cannot be read, or the video cannot be written.
    """
    image = cv2.imread(str(picture))
    if image is None:
        raise OSError(f"{picture} cannot be read")
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), frames_per_s, (480, 480))
    if not writer.isOpened():
        raise OSError(f"{video} cannot be written")
    height, width = image.shape[:2]
    for index in range(frame_count):
        share = index / (frame_count - 1)
        scale = 480 / min(width, height) * (1.0 + 0.35 * share)
        centre_x = width * (0.46 + 0.03 * math.sin(2 * math.pi * share))
        centre_y = height * (0.42 - 0.05 * share)
        matrix = np.array([[scale, 0, 240 - scale * centre_x], [0, scale, 240 - scale * centre_y]])
        writer.write(cv2.warpAffine(image, matrix, (480, 480), borderMode=cv2.BORDER_REPLICATE))
    writer.release()
