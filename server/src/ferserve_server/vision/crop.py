"""Brings faces into the form that FER-2013 nets take: 48x48 grey levels.

FER-2013's faces were cut out with the boxes of OpenCV's face detector (Goodfellow et al., "Challenges in
Representation Learning", 2013, section 2.1): a Haar box without a margin frames a face as its nets know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.face import FACE_SIDE_PIXELS, CropBatch, FaceCrop
from ferserve_server.vision.opencv import GreyImage, cv2

if TYPE_CHECKING:
    from ferserve_server.domain.face import BoundingBox


def crop_face(
    grey: GreyImage, box: BoundingBox, margin: float = 0.0, shown_size: tuple[int, int] | None = None
) -> FaceCrop:
    """Cuts the square around a face out of a picture.

    The square has the box's centre and its longer side, widened by `margin` on each side. Where it leaves the
    picture, the picture's border is repeated. What is inside is shrunk before it is padded: no more memory
    is taken than the picture has, however long the box.

    Args:
        grey: uint8 [H, W].
        box: Where the face is, inside the picture.
        margin: Border added on each side, as a share of the box's longer side, 0.0-1.0.
        shown_size: Width and height of the picture in pixels, if `grey` was decoded reduced.

    Returns:
        uint8 [48, 48].
    """
    height, width = grey.shape
    side = max(box.width, box.height) * (1 + 2 * margin)
    left = box.left + (box.width - side) / 2
    top = box.top + (box.height - side) / 2
    x_scale, y_scale = (width / shown_size[0], height / shown_size[1]) if shown_size else (1.0, 1.0)
    columns = _span(left * x_scale, side * x_scale, width)
    rows = _span(top * y_scale, side * y_scale, height)
    inside = _resized(grey[rows[0] : rows[1], columns[0] : columns[1]], rows[3], columns[3])
    if inside.shape == (FACE_SIDE_PIXELS, FACE_SIDE_PIXELS):
        return np.ascontiguousarray(inside)
    padding = tuple((before, FACE_SIDE_PIXELS - before - kept) for _, _, before, kept in (rows, columns))
    return np.ascontiguousarray(np.pad(inside, padding, mode="edge"))


def to_model_input(grey: GreyImage) -> FaceCrop:
    """Resizes a picture that is a face crop already, both sides to 48: uint8 [H, W] to uint8 [48, 48]."""
    return _resized(grey, FACE_SIDE_PIXELS, FACE_SIDE_PIXELS)


def to_model_inputs(crops: CropBatch) -> CropBatch:
    """Resizes raw crops, uint8 [N, H, W, 1], to uint8 [N, 48, 48, 1]; those of that size are not copied."""
    if crops.shape[1:3] == (FACE_SIDE_PIXELS, FACE_SIDE_PIXELS):
        return crops
    resized = np.empty((len(crops), FACE_SIDE_PIXELS, FACE_SIDE_PIXELS, 1), np.uint8)
    for row, crop in zip(resized, crops, strict=True):
        row[..., 0] = to_model_input(crop[..., 0])
    return resized


def _span(start: float, side: float, limit: int) -> tuple[int, int, int, int]:
    """Places one axis of the square in the picture.

    Returns:
        First and last (exclusive) pixel of the picture that it holds, then how many of the 48 lie before the
        picture, and how many in it.
    """
    first = min(max(round(start), 0), limit - 1)
    last = max(min(round(start + side), limit), first + 1)
    scale = FACE_SIDE_PIXELS / side
    before = min(max(round((first - start) * scale), 0), FACE_SIDE_PIXELS - 1)
    kept = min(max(round((last - start) * scale) - before, 1), FACE_SIDE_PIXELS - before)
    return first, last, before, kept


def _resized(grey: GreyImage, height: int, width: int) -> GreyImage:
    """Averages over pixels when shrinking, interpolates when enlarging."""
    if grey.shape == (height, width):
        return grey
    shrinks = grey.size > height * width
    resized: GreyImage = cv2.resize(
        grey, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    return resized
