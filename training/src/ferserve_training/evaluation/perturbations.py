"""Changes faces as cameras and detectors do: moves, darkens, blurs, compresses and covers them, and films them."""

import zlib
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


def _draws(image: Image) -> np.random.Generator:
    """Give draws that depend on the face alone, so that every net sees the same noise."""
    return np.random.default_rng(zlib.crc32(image.tobytes()))


def _noisy(sigma: float) -> Change:
    def change(image: Image) -> Image:
        noise = _draws(image).normal(0.0, sigma, image.shape)
        return np.asarray(np.clip(np.rint(image + noise), 0, 255), np.uint8)

    return change


def _moving(length: int) -> Change:
    """Smear a face along a drawn direction, as a moving head or camera does."""

    def change(image: Image) -> Image:
        line = np.zeros((length, length), np.float32)
        line[length // 2] = 1.0
        centre = ((length - 1) / 2, (length - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, float(_draws(image).uniform(0, 180)), 1.0)
        kernel = cv2.warpAffine(line, matrix, (length, length))
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)

    return change


def _dim(image: Image) -> Image:
    """Take a fifth of the light and add what a sensor adds then: noise of 2 grey levels, and rounding."""
    noise = _draws(image).normal(0.0, 2.0, image.shape)
    return np.asarray(np.clip(np.rint(image / 5 + noise), 0, 255), np.uint8)


def _filmed(image: Image) -> Image:
    """Film a face: 96 pixels in a frame, lens blur, JPEG 50, and a box that is a little off."""
    draws, side = _draws(image), 2 * FACE_SIZE
    frame = cv2.copyMakeBorder(image, *(FACE_SIZE // 4,) * 4, cv2.BORDER_REPLICATE)
    frame = cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    frame = _compressed(50)(np.asarray(cv2.GaussianBlur(frame, (0, 0), 1.5), np.uint8))
    scale = side * float(np.exp(draws.normal(0.0, 0.04))) / FACE_SIZE
    offset = (len(frame) - scale * FACE_SIZE) / 2 + draws.normal(0.0, 0.03 * side, 2)
    matrix = np.asarray([[scale, 0, offset[0]], [0, scale, offset[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Halved by areas first, as a crop is, because a warp by two alone would skip every other pixel.
    matrix[:, :] /= 2
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    size = (FACE_SIZE, FACE_SIZE)
    return np.asarray(cv2.warpAffine(half, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


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
        "low light": _dim,
        "blur, sigma 1 px": _blurred(1.0),
        "blur, sigma 1.5 px": _blurred(1.5),
        "motion blur, 5 px": _moving(5),
        "noise, 5 grey levels": _noisy(5.0),
        "noise, 10 grey levels": _noisy(10.0),
        "JPEG, quality 75": _compressed(75),
        "JPEG, quality 40": _compressed(40),
        "video chain": _filmed,
        "24 px enlarged": _upsampled,
        "upper half covered": _covered(slice(0, FACE_SIZE // 2)),
        "lower half covered": _covered(slice(FACE_SIZE // 2, FACE_SIZE)),
    }
)
"""Name and function, uint8 [48, 48] to uint8 [48, 48]."""


def changed(images: npt.NDArray[np.uint8], change: Change) -> npt.NDArray[np.uint8]:
    """Apply a change to each face, uint8 [N, 48, 48, 1]."""
    return np.stack([change(image[..., 0]) for image in images])[..., np.newaxis]
