"""Runs a detector over a picture: region, shrunk copy, tiles, and one box per face."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ferserve_vision.opencv import cv2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ferserve_vision.geometry import Box, Detection
    from ferserve_vision.opencv import GreyImage
    from ferserve_vision.options import DetectionOptions

MAX_TILE_COUNT: Final = 64
"""Maximum number of tiles, because each costs a pass: more pixels are shrunk to fit."""

TILE_OVERLAP: Final = 0.2
"""Overlap of neighbouring tiles as a share of their side: larger faces are found in the shrunk copy."""

MAX_SHARED_AREA: Final = 0.55
"""Share of the smaller box's area, beyond which two boxes are taken for the same face.

Faces side by side in the photographs that were measured share at most 0.3. Invented mouths, chins and halves of
faces at a tile's border share 0.6 and more with their face.
"""


def search(
    image: GreyImage,
    options: DetectionOptions,
    side_pixels: int,
    find: Callable[[GreyImage], list[Detection]],
) -> list[Detection]:
    """Searches a picture as the options say.

    Args:
        image: uint8 [H, W].
        options: Region and tiles; the rest is the detector's.
        side_pixels: Longer side of the copy that is searched, at most; smaller pictures are not enlarged.
        find: Finds the faces of a copy, in its pixels.

    Returns:
        Faces in pixels of `image`, largest first.
    """
    left, top, part = _region_of(image, options.region)
    if part.size == 0:
        return []
    found = [each.mapped(1.0, 1.0, left, top) for each in _in_copy(part, side_pixels, find)]
    if options.tiles and max(part.shape) > side_pixels:
        for x, y, tile in _tiles(part, side_pixels):
            found += [each.mapped(1.0, 1.0, left + x, top + y) for each in _in_copy(tile, side_pixels, find)]
    return one_box_per_face(found)


def one_box_per_face(found: Iterable[Detection]) -> list[Detection]:
    """Drops boxes that lie mostly in another: the lower score, or of equal ones the smaller.

    Returns:
        What is kept, largest first.
    """
    kept: list[Detection] = []
    for each in sorted(found, key=lambda one: (-one.score, -one.box.area, one.box)):
        if all(
            each.box.overlap(other.box) <= MAX_SHARED_AREA * min(each.box.area, other.box.area) for other in kept
        ):
            kept.append(each)
    return sorted(kept, key=lambda one: (-one.box.area, one.box.top, one.box.left, one.box.width))


def _region_of(image: GreyImage, region: Box | None) -> tuple[int, int, GreyImage]:
    """Cuts the region out of a picture, as a view: its left, its top, its pixels."""
    if region is None:
        return 0, 0, image
    height, width = image.shape
    left, top = max(0, math.floor(region.left)), max(0, math.floor(region.top))
    right = min(width, math.ceil(region.left + region.width))
    bottom = min(height, math.ceil(region.top + region.height))
    return left, top, image[top : max(top, bottom), left : max(left, right)]


def _in_copy(
    part: GreyImage, side_pixels: int, find: Callable[[GreyImage], list[Detection]]
) -> Iterator[Detection]:
    """Finds faces in a copy with at most `side_pixels`, and maps them back."""
    copy = at_most(part, side_pixels)
    x_scale, y_scale = part.shape[1] / copy.shape[1], part.shape[0] / copy.shape[0]
    return (each.mapped(x_scale, y_scale) for each in find(copy))


def _tiles(part: GreyImage, side_pixels: int) -> Iterator[tuple[int, int, GreyImage]]:
    """Cuts a picture into overlapping tiles: left, top, pixels. All have the same size."""
    height, width = part.shape
    side = side_pixels
    while _steps(height, side) * _steps(width, side) > MAX_TILE_COUNT:
        side = math.ceil(side * 1.1)
    for top in _starts(height, side):
        for left in _starts(width, side):
            yield left, top, part[top : top + side, left : left + side]


def _steps(length: int, side: int) -> int:
    """Counts the tiles along one axis."""
    return 1 if length <= side else 1 + math.ceil((length - side) / (side * (1 - TILE_OVERLAP)))


def _starts(length: int, side: int) -> list[int]:
    """Places the tiles along one axis, the last one at the end."""
    count = _steps(length, side)
    return [0] if count == 1 else [round(step * (length - side) / (count - 1)) for step in range(count)]


def at_most(grey: GreyImage, side_pixels: int) -> GreyImage:
    """Shrinks a picture so that its longer side is at most `side_pixels`."""
    height, width = grey.shape
    share = side_pixels / max(height, width)
    if share >= 1:
        return grey
    size = max(1, round(width * share)), max(1, round(height * share))
    shrunk: GreyImage = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return shrunk
