"""Augments a whole batch by a few operations, from a seed alone."""

import math
from typing import Final

from keras import ops

from ferserve_training.framework.choose import Tensor, framework
from ferserve_training.labels import FACE_SIZE
from ferserve_training.recipes.recipe import Augmentation

_DRAW_COUNT: Final = 11
_MORE_DRAW_COUNT: Final = 2
_MORE_DRAWS: Final = 1 << 30


def augment(images: Tensor, seed: Tensor, ranges: Augmentation) -> Tensor:
    """Draw one view of each image.

    The draw depends on nothing but `seed`, so that a resumed run sees the views of an uninterrupted one.
    TensorFlow and JAX draw other numbers; from the same numbers they make the same views.

    Args:
        images: uint8 [N, 48, 48, 1].
        seed: int32 [2].
        ranges: What is drawn.

    Returns:
        float32 [N, 48, 48, 1], grey levels 0 to 255.
    """
    count = ops.shape(images)[0]
    draws = ops.unstack(framework().uniform([_DRAW_COUNT, count], seed, 0), _DRAW_COUNT)
    # Drawn apart, so that recipes without them see the views that they always saw.
    more = ops.unstack(framework().uniform([_MORE_DRAW_COUNT, count], seed, _MORE_DRAWS), _MORE_DRAW_COUNT)
    return views_of(images, [*draws, *more], ranges)


def mirror(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Mirror some of the images, uint8 [N, 48, 48, 1], and give them as float32; the seed alone decides which."""
    views = ops.cast(images, "float32")
    draws = framework().uniform([ops.shape(images)[0]], seed, 0)
    return ops.where((draws < probability)[:, None, None, None], ops.flip(views, axis=2), views)


def views_of(images: Tensor, draws: list[Tensor], ranges: Augmentation) -> Tensor:
    """Make the views that some draws ask for.

    Args:
        images: uint8 [N, 48, 48, 1].
        draws: Thirteen, each float32 [N], 0 to 1.
        ranges: What the draws are stretched to.

    Returns:
        float32 [N, 48, 48, 1], grey levels 0 to 255.
    """
    transforms = _affine_transforms([*draws[:5], *draws[11:13]], ranges)
    views = framework().warp(ops.cast(images, "float32"), transforms, ranges.fill)
    means = ops.mean(views, [1, 2, 3], keepdims=True)
    contrasts = _column(1.0 + ranges.contrast * _signed(draws[5]))
    shifts = _column(ranges.brightness * _signed(draws[6]))
    views = ops.clip((views - means) * contrasts + means + shifts, 0.0, 255.0)
    return ops.where(_erased(draws[7:11], ranges), means, views)


def _affine_transforms(draws: list[Tensor], ranges: Augmentation) -> Tensor:
    """Turn seven draws into the eight parameters that map output to input pixels, float32 [N, 8]."""
    angle = math.radians(ranges.rotation_degrees) * _signed(draws[0])
    low, high = (math.log(scale) for scale in ranges.scale)
    shrink = ops.exp(-(low + (high - low) * draws[1]))
    mirror = ops.where(draws[2] < ranges.flip_probability, -1.0, 1.0)
    shift_x, shift_y = (ranges.shift_pixels * _signed(draw) for draw in draws[3:5])
    centre = (FACE_SIZE - 1) / 2
    cosine, sine = ops.cos(angle) * shrink, ops.sin(angle) * shrink
    turned = ops.where(draws[5] < ranges.vertical_flip_probability, -1.0, 1.0)
    shear = math.radians(ranges.shear_degrees) * _signed(draws[6])
    xx, yx = cosine * mirror, sine * mirror
    xy = (-sine * ops.cos(shear) - cosine * ops.sin(shear)) * turned
    yy = (cosine * ops.cos(shear) - sine * ops.sin(shear)) * turned
    x0 = centre + shift_x - (xx + xy) * centre
    y0 = centre + shift_y - (yx + yy) * centre
    zero = ops.zeros_like(angle)
    return ops.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1)


def _erased(draws: list[Tensor], ranges: Augmentation) -> Tensor:
    """Mark the pixels of each image's square, bool [N, 48, 48, 1]; most images have none."""
    low, high = ranges.erase_area
    side = ops.sqrt(low + (high - low) * draws[0]) * FACE_SIZE
    side = ops.where(draws[1] < ranges.erase_probability, side, -1.0)[:, None]
    pixels = ops.arange(FACE_SIZE, dtype="float32")[None, :]
    rows, columns = (ops.abs(pixels - FACE_SIZE * draw[:, None]) <= side / 2 for draw in (draws[2], draws[3]))
    return ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])


def _signed(draw: Tensor) -> Tensor:
    """Stretch [0, 1) to [-1, 1)."""
    return 2.0 * draw - 1.0


def _column(values: Tensor) -> Tensor:
    """Reshape [N] to [N, 1, 1, 1]."""
    return values[:, None, None, None]
