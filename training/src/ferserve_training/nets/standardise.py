"""Standardises images inside the graph; there is no other preprocessing."""

from typing import Final

import keras

MIN_DEVIATION: Final = 8.0
"""Grey levels; keeps the noise of flat images from being blown up."""


def standardise(images: keras.KerasTensor) -> keras.KerasTensor:
    """Take each image's mean off and divide by its standard deviation, which makes lighting cancel out.

    Args:
        images: float32 [N, H, W, 1], grey levels 0 to 255.

    Returns:
        float32 [N, H, W, 1].
    """
    centred = images - keras.ops.mean(images, axis=(1, 2, 3), keepdims=True)
    deviation = keras.ops.sqrt(keras.ops.mean(keras.ops.square(centred), axis=(1, 2, 3), keepdims=True))
    return centred / keras.ops.maximum(deviation, MIN_DEVIATION)
