"""Faces as cameras and detectors deliver them: shifted, turned, scaled, dark, blurred, compressed, covered."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from ferserve_training.labels import FACE_SIZE

Image = npt.NDArray[np.uint8]
Change = Callable[[Image], Image]


def _moved(*, shift: tuple[float, float] = (0.0, 0.0), degrees: float = 0.0, scale: float = 1.0) -> Change:
    centre = ((FACE_SIZE - 1) / 2, (FACE_SIZE - 1) / 2)

    def change(image: Image) -> Image:
        matrix = cv2.getRotationMatrix2D(centre, degrees, scale)
        matrix[:, 2] += shift
        size = (FACE_SIZE, FACE_SIZE)
        return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return change


def _brightened(levels: float) -> Change:
    return lambda image: np.clip(image.astype(np.float32) + levels, 0, 255).astype(np.uint8)


def _blurred(sigma: float) -> Change:
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _compressed(quality: int) -> Change:
    def change(image: Image) -> Image:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)

    return change


def _upsampled(image: Image) -> Image:
    half = (FACE_SIZE // 2, FACE_SIZE // 2)
    small = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _covered(rows: slice) -> Change:
    def change(image: Image) -> Image:
        covered = image.copy()
        covered[rows] = round(float(image.mean()))
        return covered

    return change


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "shift 4 px right": _moved(shift=(4.0, 0.0)),
        "shift 4 px down": _moved(shift=(0.0, 4.0)),
        "turn 15 degrees left": _moved(degrees=15.0),
        "turn 15 degrees right": _moved(degrees=-15.0),
        "scale 0.8": _moved(scale=0.8),
        "scale 1.25": _moved(scale=1.25),
        "brightness +60": _brightened(60.0),
        "brightness -60": _brightened(-60.0),
        "blur, sigma 1.5 px": _blurred(1.5),
        "JPEG, quality 40": _compressed(40),
        "24 px enlarged": _upsampled,
        "upper half covered": _covered(slice(0, FACE_SIZE // 2)),
        "lower half covered": _covered(slice(FACE_SIZE // 2, FACE_SIZE)),
    }
)
"""Name and function, uint8 [48, 48] to uint8 [48, 48]."""


def changed(images: npt.NDArray[np.uint8], change: Change) -> npt.NDArray[np.uint8]:
    """Apply a change to each face, uint8 [N, 48, 48, 1]."""
    return np.stack([change(image[..., 0]) for image in images])[..., np.newaxis]
