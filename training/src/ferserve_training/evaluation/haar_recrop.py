"""Cuts faces out of a larger picture again, with the boxes of the detector that FER-2013 was made with."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from ferserve_training.labels import FACE_SIZE

_ENLARGEMENT: Final = 2
_MARGIN: Final = FACE_SIZE // 2
"""Pixels of repeated border on each side of the face, before it is enlarged."""
_SCALE_FACTOR: Final = 1.1
_NEIGHBOURS: Final = 3


def recrop(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Place each face in a larger picture, detect it there and cut it out by its box.

    FER-2013 was cut out with the boxes of OpenCV's frontal face detector, without a margin (Goodfellow et al.
    2013, section 2.1). The detector needs a surrounding, which the faces have lost: it finds four of five faces of
    PublicTest in a repeated border.

    Args:
        images: uint8 [N, 48, 48, 1].

    Returns:
        Faces, uint8 [N, 48, 48, 1], and which of them were found, bool [N]; the others are returned as they were.
    """
    detector = cv2.CascadeClassifier(
        str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml")
    )
    crops, found = images.copy(), np.zeros(len(images), np.bool_)
    for index, image in enumerate(images[..., 0]):
        crop = _recrop(detector, image)
        if crop is not None:
            crops[index, ..., 0], found[index] = crop, True
    return crops, found


def _recrop(detector: cv2.CascadeClassifier, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    framed = cv2.copyMakeBorder(image, *(_MARGIN,) * 4, cv2.BORDER_REPLICATE)
    picture = cv2.resize(framed, None, fx=_ENLARGEMENT, fy=_ENLARGEMENT, interpolation=cv2.INTER_CUBIC)
    least = FACE_SIZE * _ENLARGEMENT // 2
    boxes = detector.detectMultiScale(picture, _SCALE_FACTOR, _NEIGHBOURS, minSize=(least, least))
    if not len(boxes):
        return None
    middle = len(picture) / 2
    left, top, width, height = min(
        boxes, key=lambda box: abs(box[0] + box[2] / 2 - middle) + abs(box[1] + box[3] / 2 - middle)
    )
    crop = picture[top : top + height, left : left + width]
    return np.asarray(cv2.resize(crop, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)
