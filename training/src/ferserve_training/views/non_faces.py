"""Makes images that are no faces out of views of faces and of pictures without people, from a seed alone."""

from typing import Final

import numpy as np
from keras import ops

from ferserve_training.framework.choose import Tensor, framework
from ferserve_training.labels import FACE_SIZE

NON_FACE_SHARE: Final = 0.1
"""Share of a batch that is replaced by non-faces."""

_DRAW_COUNT: Final = 10
_DRAWS: Final = 1 << 26
_NOISE_DRAWS: Final = 1 << 25
_CELL_DRAWS: Final = 1 << 24
_TILES: Final = (3, 4, 6)
"""Tiles along each axis of a jigsaw."""
_ZOOM: Final = (3.0, 8.0)
"""Magnification of a part of a face: a third of it or less is seen."""
_BLOB_SIDES: Final = (3, 5, 8, 13)
"""Cells along each axis of a field of blobs."""


def non_faces(views: Tensor, crops: Tensor, has_crops: bool, seed: Tensor) -> Tensor:
    """Make one non-face from each view.

    A quarter each are jigsaws of a face, zooms into one, and noise or blobs; the last quarter are crops of
    pictures without people. Where there are none, each of the other kinds is a third.

    Args:
        views: float32 [K, 48, 48, 1], grey levels 0 to 255.
        crops: float32 [K, 48, 48, 1], crops of pictures without people; anything where `has_crops` is False.
        has_crops: Whether there are such pictures.
        seed: int32 [2]; it alone decides the draws.

    Returns:
        float32 [K, 48, 48, 1], grey levels 0 to 255.
    """
    count = ops.shape(views)[0]
    draws = ops.unstack(framework().uniform([_DRAW_COUNT, count], seed, _DRAWS), _DRAW_COUNT)
    kind = draws[0] if has_crops else draws[0] * 0.75
    shuffled, zoomed = _jigsaws(views, draws[1], seed), _zooms(views, draws[2:5])
    fields = _fields(draws[5:9], seed)
    made = ops.where(_column(kind < 0.25), shuffled, zoomed)
    made = ops.where(_column(kind >= 0.5), fields, made)
    return ops.where(_column(kind >= 0.75), crops, made)


def _jigsaws(views: Tensor, draw: Tensor, seed: Tensor) -> Tensor:
    """Shuffle the tiles of each view."""
    count = ops.shape(views)[0]
    made = views
    for index, tiles in enumerate(_TILES):
        side = FACE_SIZE // tiles
        order = ops.argsort(framework().uniform([count, tiles * tiles], seed, _CELL_DRAWS + index), axis=1)
        blocks = ops.reshape(views, [-1, tiles, side, tiles, side])
        blocks = ops.reshape(ops.transpose(blocks, [0, 1, 3, 2, 4]), [-1, tiles * tiles, side * side])
        blocks = ops.take_along_axis(blocks, order[:, :, None], axis=1)
        blocks = ops.transpose(ops.reshape(blocks, [-1, tiles, tiles, side, side]), [0, 1, 3, 2, 4])
        shuffled = ops.reshape(blocks, [-1, FACE_SIZE, FACE_SIZE, 1])
        is_it = ops.logical_and(draw >= index / len(_TILES), draw < (index + 1) / len(_TILES))
        made = ops.where(_column(is_it), shuffled, made)
    return made


def _zooms(views: Tensor, draws: list[Tensor]) -> Tensor:
    """Magnify a part of each view."""
    shrink = 1.0 / (_ZOOM[0] + (_ZOOM[1] - _ZOOM[0]) * draws[0])
    room = FACE_SIZE * (1.0 - shrink)
    zero = ops.zeros_like(shrink)
    rows = [shrink, zero, room * draws[1], zero, shrink, room * draws[2], zero, zero]
    return framework().warp(views, ops.stack(rows, axis=1), "REFLECT")


def _fields(draws: list[Tensor], seed: Tensor) -> Tensor:
    """Draw noise and smooth blobs of any mean and contrast."""
    count = ops.shape(draws[0])[0]
    field = framework().normal([count, FACE_SIZE, FACE_SIZE, 1], seed, _NOISE_DRAWS)
    parts = len(_BLOB_SIDES) + 1
    for index, side in enumerate(_BLOB_SIDES):
        cells = framework().normal([count, side, side, 1], seed, _NOISE_DRAWS + 1 + index)
        blobs = ops.image.resize(cells, (FACE_SIZE, FACE_SIZE), interpolation="bilinear")
        is_it = ops.logical_and(draws[0] >= index / parts, draws[0] < (index + 1) / parts)
        field = ops.where(_column(is_it), blobs, field)
    mean, contrast = 40.0 + 175.0 * draws[1], 2.0 + 68.0 * draws[2]
    return ops.clip(_column(mean) + _column(contrast) * field, 0.0, 255.0)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def count_non_faces(batch_size: int) -> int:
    """Count the faces of a batch that non-faces replace; at least one."""
    return max(1, int(np.rint(batch_size * NON_FACE_SHARE)))
