"""Augmentation of a whole batch by a few TensorFlow operations, from a seed alone."""

import math

import tensorflow as tf

from ferserve_training.labels import FACE_SIZE
from ferserve_training.recipes.recipe import Augmentation

_DRAW_COUNT = 11
_MORE_DRAWS = (1 << 30, 0)


def augment(images: tf.Tensor, seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Draw one view of each image.

    The draw depends on nothing but `seed`, so that a resumed run sees the views of an uninterrupted one.

    Args:
        images: uint8 [N, 48, 48, 1].
        seed: int32 [2].
        ranges: What is drawn.

    Returns:
        float32 [N, 48, 48, 1], grey levels 0 to 255.
    """
    count = tf.shape(images)[0]
    draws = tf.unstack(tf.random.stateless_uniform([_DRAW_COUNT, count], seed), num=_DRAW_COUNT)
    # Drawn apart, so that recipes without them see the views that they always saw.
    more_draws = tf.unstack(tf.random.stateless_uniform([2, count], seed + _MORE_DRAWS), num=2)
    views = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=_affine_transforms([*draws[:5], *more_draws], ranges),
        output_shape=[FACE_SIZE, FACE_SIZE],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=ranges.fill,
    )
    means = tf.reduce_mean(views, [1, 2, 3], keepdims=True)
    contrasts = _column(1.0 + ranges.contrast * _signed(draws[5]))
    shifts = _column(ranges.brightness * _signed(draws[6]))
    views = tf.clip_by_value((views - means) * contrasts + means + shifts, 0.0, 255.0)
    return tf.where(_erased(draws[7:11], ranges), means, views)


def _affine_transforms(draws: list[tf.Tensor], ranges: Augmentation) -> tf.Tensor:
    """Turn seven draws into the eight parameters that map output to input pixels, float32 [N, 8]."""
    angle = math.radians(ranges.rotation_degrees) * _signed(draws[0])
    low, high = (math.log(scale) for scale in ranges.scale)
    shrink = tf.exp(-(low + (high - low) * draws[1]))
    mirror = tf.where(draws[2] < ranges.flip_probability, -1.0, 1.0)
    shift_x, shift_y = (ranges.shift_pixels * _signed(draw) for draw in draws[3:5])
    centre = (FACE_SIZE - 1) / 2
    cosine, sine = tf.cos(angle) * shrink, tf.sin(angle) * shrink
    turned = tf.where(draws[5] < ranges.vertical_flip_probability, -1.0, 1.0)
    shear = math.radians(ranges.shear_degrees) * _signed(draws[6])
    xx, yx = cosine * mirror, sine * mirror
    xy = (-sine * tf.cos(shear) - cosine * tf.sin(shear)) * turned
    yy = (cosine * tf.cos(shear) - sine * tf.sin(shear)) * turned
    x0 = centre + shift_x - (xx + xy) * centre
    y0 = centre + shift_y - (yx + yy) * centre
    zero = tf.zeros_like(angle)
    return tf.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1)


def _erased(draws: list[tf.Tensor], ranges: Augmentation) -> tf.Tensor:
    """Mark the pixels of each image's square, bool [N, 48, 48, 1]; most images have none."""
    low, high = ranges.erase_area
    side = tf.sqrt(low + (high - low) * draws[0]) * FACE_SIZE
    side = tf.where(draws[1] < ranges.erase_probability, side, -1.0)[:, tf.newaxis]
    pixels = tf.range(FACE_SIZE, dtype=tf.float32)[tf.newaxis, :]
    rows, columns = (tf.abs(pixels - FACE_SIZE * draw[:, tf.newaxis]) <= side / 2 for draw in (draws[2], draws[3]))
    return tf.logical_and(rows[:, :, tf.newaxis, tf.newaxis], columns[:, tf.newaxis, :, tf.newaxis])


def _signed(draw: tf.Tensor) -> tf.Tensor:
    """Stretch [0, 1) to [-1, 1)."""
    return 2.0 * draw - 1.0


def _column(values: tf.Tensor) -> tf.Tensor:
    """Reshape [N] to [N, 1, 1, 1]."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
