"""Brings faces into the form that FER-2013 nets take: 48x48 grey levels, the face where FER-2013 has it.

FER-2013's faces were cut out with the boxes of OpenCV's face detector (Goodfellow et al., "Challenges in
Representation Learning", 2013, section 2.1), upright as they stood in the picture. `crop_face` puts a detected
face into the same place: by its landmarks and box where there are any, else by its box. docs/performance.md has
what other placements lose.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ferserve_vision.opencv import GreyImage, cv2

if TYPE_CHECKING:
    from ferserve_vision.geometry import Box, Detection, Landmarks

FACE_SIDE_PIXELS: Final = 48
"""Side of the square crops that FER-2013 nets take."""

FaceCrop = npt.NDArray[np.uint8]
"""One face: uint8 [48, 48], grey levels 0-255."""

CropBatch = npt.NDArray[np.uint8]
"""Raw crops: uint8 [N, H, W, 1], grey levels 0-255."""

FER_2013_LANDMARKS: Final = np.array(
    [(0.305, 0.389), (0.689, 0.393), (0.482, 0.601), (0.335, 0.768), (0.653, 0.772)]
)
"""Places of `Landmarks` in a FER-2013 crop, as shares of its side: medians that YuNet finds in 947 of
PublicTest."""

MAX_RESIDUAL: Final = 0.12
"""Root mean square distance of the landmarks from their places, as a share of the side, beyond which the box is
taken.

It is 0.03 for the median face and 0.08 for profiles; above it the points are no face's.
"""

BOX_WEIGHT: Final = 0.5
"""Weight of the box beside the landmarks, for upright faces; it falls to 0 at 45 degrees, as the box then grows
with the rotation. Landmarks jump by less, boxes are less misled by the expression: in an experiment on PublicTest
faces in larger pictures both together scored about a point above either alone (benchmarks/crop_contract.py repeats
it; no report is committed)."""

_MAX_COORDINATE_PIXELS: Final = 1e6
"""Side beyond which landmarks are no face's: pictures have 65,535 pixels a side at most."""

_MAX_SAMPLES: Final = 8
"""Maximum number of samples per pixel and axis when shrinking; faces over 384 pixels are averaged before."""


def crop_face(image: GreyImage, detection: Detection) -> FaceCrop:
    """Cuts a detected face out of a picture.

    Where the crop leaves the picture, the picture's border is repeated.

    Args:
        image: uint8 [H, W].
        detection: The face, in pixels of `image`.

    Returns:
        uint8 [48, 48].
    """
    if detection.landmarks is None:
        return crop_box(image, detection.box)
    return _warp(image, _placed(detection.box, detection.landmarks))


def crop_box(image: GreyImage, box: Box) -> FaceCrop:
    """Cuts the square around a box: the same centre, the longer side. uint8 [H, W] to uint8 [48, 48]."""
    side = max(box.width, box.height)
    left, top = box.left + (box.width - side) / 2, box.top + (box.height - side) / 2
    return _crop_square(image, left, top, side)


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


class _Square(NamedTuple):
    """The crop's place: centre and side in pixels, rotation in degrees, clockwise as shown."""

    x: float
    y: float
    side: float
    degrees: float


def _placed(box: Box, landmarks: Landmarks) -> _Square:
    """Places the crop by landmarks and box, or by the box alone where the landmarks are no face's."""
    by_box = _by_box(box)
    by_landmarks = _by_landmarks(landmarks)
    if by_landmarks is None:
        return by_box
    weight = BOX_WEIGHT * max(0.0, math.cos(2 * math.radians(by_landmarks.degrees)))
    return _Square(
        by_landmarks.x + weight * (by_box.x - by_landmarks.x),
        by_landmarks.y + weight * (by_box.y - by_landmarks.y),
        by_landmarks.side ** (1 - weight) * by_box.side**weight,
        by_landmarks.degrees,
    )


def _by_box(box: Box) -> _Square:
    """Places the crop by a box of YuNet's, which reaches from above the brow to the chin.

    FER-2013's crop has 0.95 of its height as its side and begins 1.4 % of it below its top (medians of
    PublicTest).
    """
    side = 0.95 * box.height
    return _Square(box.left + box.width / 2, box.top + 0.014 * box.height + side / 2, side, 0.0)


def _by_landmarks(landmarks: Landmarks) -> _Square | None:
    """Places the crop by landmarks; None where they are no face's.

    A least-squares similarity (Umeyama, IEEE PAMI 13 (4), 1991) maps `FER_2013_LANDMARKS` onto them.
    """
    points = np.asarray(landmarks, np.float64)
    if not (np.abs(points) < _MAX_COORDINATE_PIXELS).all():  # NaN is not less either
        return None
    target_mean, point_mean = FER_2013_LANDMARKS.mean(axis=0), points.mean(axis=0)
    target, point = FER_2013_LANDMARKS - target_mean, points - point_mean
    spread = float((target**2).sum())
    along = float((target * point).sum()) / spread
    across = float((target[:, 0] * point[:, 1] - target[:, 1] * point[:, 0]).sum()) / spread
    side = math.hypot(along, across)
    if side < 1.0:
        return None
    fitted = np.stack(
        [along * target[:, 0] - across * target[:, 1], across * target[:, 0] + along * target[:, 1]], axis=1
    )
    residual = math.sqrt(float(((fitted - point) ** 2).sum(axis=1).mean())) / side
    if residual > MAX_RESIDUAL:
        return None
    # The mean of the landmarks keeps its place; the square's centre lies off it by the same way, turned.
    x, y = 0.5 - target_mean
    return _Square(
        float(point_mean[0] + along * x - across * y),
        float(point_mean[1] + across * x + along * y),
        side,
        math.degrees(math.atan2(across, along)),
    )


def _crop_square(image: GreyImage, left: float, top: float, side: float) -> FaceCrop:
    """Cuts an upright square, its sides rounded to pixels; what is inside is resized before it is padded."""
    height, width = image.shape
    columns = _span(left, side, width)
    rows = _span(top, side, height)
    inside = _resized(image[rows[0] : rows[1], columns[0] : columns[1]], rows[3], columns[3])
    if inside.shape == (FACE_SIDE_PIXELS, FACE_SIDE_PIXELS):
        return np.ascontiguousarray(inside)
    padding = tuple((before, FACE_SIDE_PIXELS - before - kept) for _, _, before, kept in (rows, columns))
    return np.ascontiguousarray(np.pad(inside, padding, mode="edge"))


def _warp(image: GreyImage, square: _Square) -> FaceCrop:
    """Cuts a turned square with positions between pixels, sampled several times per pixel when it is shrunk."""
    (height, width), (centre_x, centre_y, side, degrees) = image.shape, square
    # Only what the square can touch is looked at: OpenCV warps pictures of less than 32,768 pixels a side.
    reach = side * (abs(math.cos(math.radians(degrees))) + abs(math.sin(math.radians(degrees)))) / 2 + 2
    first_x, last_x = _within(centre_x - reach, centre_x + reach, width)
    first_y, last_y = _within(centre_y - reach, centre_y + reach, height)
    part = image[first_y:last_y, first_x:last_x]
    x, y = centre_x - first_x, centre_y - first_y
    most = _MAX_SAMPLES * FACE_SIDE_PIXELS
    if side > most:
        shrunk = _resized(part, *(max(1, round(length * most / side)) for length in part.shape))
        # OpenCV counts from the centre of the first pixel.
        x = (x + 0.5) * shrunk.shape[1] / part.shape[1] - 0.5
        y = (y + 0.5) * shrunk.shape[0] / part.shape[0] - 0.5
        side *= shrunk.shape[0] / part.shape[0]
        part = shrunk
    samples = min(_MAX_SAMPLES, max(1, math.ceil(side / FACE_SIDE_PIXELS)))
    out = samples * FACE_SIDE_PIXELS
    scale = side / out
    cosine, sine = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    middle = (out - 1) / 2
    matrix = np.array(
        [
            [cosine, -sine, x - 0.5 - cosine * middle + sine * middle],
            [sine, cosine, y - 0.5 - sine * middle - cosine * middle],
        ]
    )
    warped: GreyImage = cv2.warpAffine(
        part,
        matrix,
        (out, out),
        flags=(cv2.INTER_LINEAR if samples > 1 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _resized(warped, FACE_SIDE_PIXELS, FACE_SIDE_PIXELS)


def _within(first: float, last: float, length: int) -> tuple[int, int]:
    """Rounds a span outwards to at least one pixel inside 0 to `length`."""
    start = min(max(math.floor(first), 0), length - 1)
    return start, max(start + 1, min(math.ceil(last), length))


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
