"""Scores many faces with a net."""

import math
from typing import Final

import keras
import numpy as np
import numpy.typing as npt

from ferserve_training.labels import FACE_SIZE

_BATCH: Final = 512
_VALUES: Final = 1 << 26
"""Of the largest map of a batch: 256 MiB."""


def score(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Run a net on images, one forward pass each.

    Args:
        model: From grey levels to logits.
        images: uint8 [N, 48, 48, 1].

    Returns:
        Logits, float32 [N, 7].
    """
    shapes = [layer.output.shape[1:] for layer in model.layers]
    largest = max(math.prod(side or FACE_SIZE for side in shape) for shape in shapes)
    batch = min(_BATCH, max(1, _VALUES // largest))
    parts = [
        np.asarray(model(images[start : start + batch].astype(np.float32), training=False))
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)
