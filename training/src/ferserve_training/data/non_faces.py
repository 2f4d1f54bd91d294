"""Cuts crops out of pictures without people, to learn from or to test with as non-faces."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError
from ferserve_training.labels import FACE_SIZE

CROPS_PER_PICTURE: Final = 400
_MIN_SIDE: Final = 32
"""Pixels of a picture; what is smaller would be nothing but its own enlargement."""
_MAX_SIDE: Final = 1600
"""Pixels; larger pictures are scaled down first, so that their crops show things rather than grain."""


def cut_non_faces(
    source: Path, crops_per_picture: int = CROPS_PER_PICTURE, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Cut squares of any size and place out of each picture, and scale them to the size of a face.

    Args:
        source: A folder or zip archive of pictures without people.
        crops_per_picture: Crops of each picture.
        seed: It and the pictures alone decide the crops.

    Returns:
        uint8 [pictures * crops_per_picture, 48, 48, 1], grey levels.

    Raises:
        DataError: A file is no picture or too small, or there is none.
    """
    draws = np.random.default_rng(seed)
    crops = []
    for path, content in read_files(source):
        encoded = np.frombuffer(content, np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if encoded.size else None
        if picture is None:
            raise DataError(f"{source}/{path}", "is no readable image")
        if min(picture.shape) < _MIN_SIDE:
            raise DataError(f"{source}/{path}", f"is smaller than {_MIN_SIDE} pixels a side")
        scale = min(1.0, _MAX_SIDE / max(picture.shape))
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        crops += [_crop(np.asarray(picture, np.uint8), draws) for _ in range(crops_per_picture)]
    if not crops:
        raise DataError(source, "holds no picture")
    return np.stack(crops)[..., np.newaxis]


def _crop(picture: npt.NDArray[np.uint8], draws: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Cut one square, uint8 [48, 48]; the logarithm of its side is drawn evenly."""
    longest = min(picture.shape)
    least = min(longest, _MIN_SIDE)
    side = round(float(np.exp(draws.uniform(np.log(least), np.log(longest)))))
    top, left = (int(draws.integers(0, length - side + 1)) for length in picture.shape)
    square = picture[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side >= FACE_SIZE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (FACE_SIZE, FACE_SIZE), interpolation=method), np.uint8)
