"""Measures whether a net trains faster in bfloat16 on this machine."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.framework.choose import Device
from ferserve_training.labels import CLASS_COUNT, FACE_SIZE
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.recipes.recipe import Precision, Recipe

_STEPS: Final = 4
_ROUNDS: Final = 3
_MIN_GAIN: Final = 1.1
"""bfloat16 rounds more, so that it must be worth it: 1.1 times as fast at least."""


def faster_precision(recipe: Recipe, devices: Sequence[Device] = ()) -> Precision:
    """Make some steps on noise in either precision; takes seconds.

    Args:
        recipe: What is to be trained.
        devices: On what; none: the framework's first.

    Returns:
        'bfloat16' where it is clearly faster, as on processors with AVX512_BF16 or AMX; else 'float32'.
    """
    gain = _step_seconds(recipe, devices, "float32") / _step_seconds(recipe, devices, "bfloat16")
    return "bfloat16" if gain >= _MIN_GAIN else "float32"


def _step_seconds(recipe: Recipe, devices: Sequence[Device], precision: Precision) -> float:
    """Time the fastest of some rounds of steps."""
    count = recipe.optimisation.batch_size
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    labels = random.integers(0, CLASS_COUNT, count, np.int32)
    faces = LabelledFaces(images, labels, tuple(str(index) for index in range(count)))
    tried = replace(recipe, optimisation=replace(recipe.optimisation, precision=precision))
    learner = new_learner(Lesson(tried, faces, seed=0), devices)
    order = np.tile(np.arange(count, dtype=np.int32), (_STEPS, 1))
    rates = np.full(_STEPS, 1e-3, np.float32)
    seconds = []
    for _ in range(_ROUNDS + 1):
        started = time.monotonic()
        learner.train_epoch(order, rates, 0)
        seconds.append(time.monotonic() - started)
    # The first round compiles.
    return min(seconds[1:])
