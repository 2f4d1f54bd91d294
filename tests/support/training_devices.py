"""Trains on one and on two devices of the CPU, and prints the losses of both as JSON.

`KERAS_BACKEND` says on which framework; on JAX, `XLA_FLAGS` splits the CPU.
"""

import json
import sys
from dataclasses import replace

import keras
import numpy as np

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.framework.choose import framework
from ferserve_training.labels import VOTE_COUNT
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.layers import Conv, Dense, Flatten, Pool
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.recipes.smoke import smoke_version

FACE_COUNT = 32
BATCH = 16
PLAIN_NET = ChainSpec((Conv(4), Pool(), Flatten(), Dense(7, relu=False)))


def plain_recipe(**changes: object) -> Recipe:
    """A net without batch norm or dropout, averaged and decayed."""
    changes = {"grows": False, "not_a_face_share": 0.0} | changes
    optimisation = replace(smoke_version(RECIPES["fer-nano"]).optimisation, **changes)
    return Recipe("plain", "", PLAIN_NET, RECIPES["fer-nano"].augmentation, optimisation, 1)


def drawn_faces() -> LabelledFaces:
    """Faces with labels that mean nothing."""
    labels = np.arange(FACE_COUNT, dtype=np.int32) % 7
    return LabelledFaces(draw_faces(FACE_COUNT), labels, tuple(map(str, range(FACE_COUNT))))


def spread_votes() -> np.ndarray:
    """Half of the faces show none, the others' votes are spread; float32 [N, 10]."""
    shares = np.full((FACE_COUNT, VOTE_COUNT), 0.1, np.float32)
    shares[::2] = np.eye(VOTE_COUNT, dtype=np.float32)[-1]
    return shares


def steps(learner, count: int, first: int = 0, view_size: int = 48) -> list[float]:
    """The loss of each of some steps."""
    orders = np.arange(first * BATCH, (first + count) * BATCH, dtype=np.int32).reshape(count, BATCH) % FACE_COUNT
    rates = np.full(1, 1e-2, np.float32)
    return [
        learner.train_epoch(order[np.newaxis], rates, first + index, view_size)
        for index, order in enumerate(orders)
    ]


def _losses() -> dict[str, list[list[float]]]:
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415  # not there where JAX computes

        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], halves)
    _, cpus = framework().devices()
    nano = smoke_version(RECIPES["fer-nano"])
    with_votes = replace(nano, optimisation=replace(nano.optimisation, mixup=0.2, vote_share=0.3))
    lessons = {
        "plain": (Lesson(plain_recipe(mixup=0.2, balances_classes=True), drawn_faces(), 0), 48),
        "norms and votes": (Lesson(with_votes, drawn_faces(), 0, votes=spread_votes()), 32),
    }
    return {
        name: [steps(new_learner(lesson, cpus[:count]), 3, view_size=size) for count in (1, 2)]
        for name, (lesson, size) in lessons.items()
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_losses()) + "\n")
