"""Makes moving pictures for tests of the page: a moving portrait, as a video file and as a camera."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import cv2
import numpy as np

from support.pictures import ASTRONAUT

WIDTH, HEIGHT, FRAMES_PER_S = 640, 480, 30


def frames(seconds: float) -> list[np.ndarray]:
    """Makes frames of a camera that sways over the portrait: uint8 [480, 640, 3], blue first, a closed loop."""
    portrait = cv2.resize(cv2.imread(str(ASTRONAUT)), (760, 760), interpolation=cv2.INTER_AREA)
    count = round(seconds * FRAMES_PER_S)
    found = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        left = round(60 + 40 * math.sin(angle))
        top = round(40 + 12 * math.sin(2 * angle))
        found.append(np.ascontiguousarray(portrait[top : top + HEIGHT, left : left + WIDTH]))
    return found


def write_video(path: Path, seconds: float) -> None:
    """Writes a WebM file with VP8, which every Chromium plays."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FRAMES_PER_S, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in frames(seconds):
        writer.write(frame)
    writer.release()


def write_camera(path: Path, seconds: float) -> None:
    """Writes a YUV4MPEG2 file, which Chromium plays again and again as its fake camera."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FRAMES_PER_S}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames(seconds):
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_video(folder / "portrait.webm", 4)
    write_camera(folder / "camera.y4m", 4)
