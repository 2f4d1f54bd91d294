"""Makes clips for the benchmark of streams: frames of video files, and of a portrait moving on a known path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from ferserve_vision.detectors.yunet import YunetDetector
from ferserve_vision.options import DetectionOptions

PORTRAIT: Final = Path(__file__).resolve().parent.parent / "tests" / "media" / "astronaut.jpg"
JPEG_QUALITY: Final = 90

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """Holds the frames of a video.

    Attributes:
        name: Name for tables.
        frames: The frames as JPEG.
        rate: Frames per second.
    """

    name: str
    frames: tuple[bytes, ...]
    rate: float


def read_clip(path: Path, width: int | None = None) -> Clip:
    """Reads a video file with OpenCV, scaled to `width` pixels if that is given.

    Raises:
        OSError: It cannot be read.
    """
    video = cv2.VideoCapture(str(path))
    rate = video.get(cv2.CAP_PROP_FPS) or 30.0
    frames = []
    while True:
        there, pixels = video.read()
        if not there:
            break
        if width is not None and pixels.shape[1] != width:
            pixels = cv2.resize(pixels, (width, round(pixels.shape[0] * width / pixels.shape[1])))
        frames.append(encode(pixels))
    if not frames:
        raise OSError(f"no frames in {path}")
    return Clip(path.stem, tuple(frames), rate)


def encode(pixels: npt.NDArray[np.generic]) -> bytes:
    """Encodes pixels as a JPEG."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def moving_portrait(width: int, height: int, rate: float, seconds: float) -> Clip:
    """Draws a portrait as high as a third of the picture that sways over a grained background."""
    portrait: Any = cv2.imread(str(PORTRAIT))
    portrait = portrait[0:330, 60:390]
    side = height // 3 * 2
    portrait = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(0).normal(110, 12, (height // 4, width // 4, 3))
    background = cv2.resize(np.clip(grain, 0, 255).astype(np.uint8), (width, height))
    frames = []
    for number in range(round(rate * seconds)):
        time_s = number / rate
        x = (width - side) / 2 * (1 + 0.8 * math.sin(2 * math.pi * time_s / 5))
        y = (height - side) / 2 * (1 + 0.5 * math.sin(2 * math.pi * time_s / 3))
        picture = background.copy()
        picture[round(y) : round(y) + side, round(x) : round(x) + side] = portrait
        frames.append(encode(picture))
    return Clip(f"portrait {width}x{height}", tuple(frames), rate)


def switching_faces(first: Path, second: Path, rate: float, seconds: float) -> Clip:
    """Shows a photograph whose largest face is replaced by that of another one from half of the time on.

    Every frame has grain of its own.

    Raises:
        OSError: A photograph cannot be read, or shows no face.
    """
    before, (left, top, width, height) = _largest_face(first)
    other, (from_left, from_top, from_width, from_height) = _largest_face(second)
    face = other[from_top : from_top + from_height, from_left : from_left + from_width]
    after = before.copy()
    resized = cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA)
    after[top : top + height, left : left + width] = resized
    rng = np.random.default_rng(0)
    frames = []
    for number in range(round(rate * seconds)):
        shown = after if number >= rate * seconds / 2 else before
        frames.append(encode(np.clip(shown + rng.normal(0, 4, shown.shape), 0, 255).astype(np.uint8)))
    return Clip(f"{first.stem} to {second.stem}", tuple(frames), rate)


def _largest_face(path: Path) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]:
    pixels: Any = cv2.imread(str(path))
    if pixels is None:
        raise OSError(f"no picture in {path}")
    found = YunetDetector().detect(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), DetectionOptions())
    if not found:
        raise OSError(f"no face in {path}")
    height, width = pixels.shape[:2]
    box = found[0].box
    left, top = max(0, round(box.left)), max(0, round(box.top))
    return pixels, (left, top, min(round(box.width), width - left), min(round(box.height), height - top))
