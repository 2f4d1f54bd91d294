"""Trains on TensorFlow: some steps a call, compiled by `tf.function`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.framework.on_tensorflow import strategy_on
from ferserve_training.labels import FACE_SIZE
from ferserve_training.loop.learner import STEPS_PER_CALL, Learner
from ferserve_training.loop.lesson import Lesson, Shown

_Tensors = tuple[Any, ...]
"""Tensors of one row a face, and a list of such."""


class TensorFlowLearner(Learner):
    """Trains with TensorFlow.

    Several devices hold a copy of the weights each and share each batch (`tf.distribute.MirroredStrategy`). Views
    are drawn and mixed for the whole batch, and the gradients are those of the whole; but batch norm sees the part
    of its device, and the statistics that are kept are those of the first.

    Args:
        lesson: What to learn.
        devices: By name; none: what TensorFlow prefers.
    """

    def __init__(self, lesson: Lesson, devices: Sequence[str]) -> None:
        self._part_count = max(1, len(devices))
        self._strategy = strategy_on(tuple(devices))
        with self._strategy.scope():
            super().__init__(lesson)
        self._crops_tensor = tf.constant(self._crops)
        # Traced once for each size of the views and each number of steps, of which there are two.
        self._run_steps = tf.function(self._steps)

    def train_epoch(
        self,
        order: npt.NDArray[np.int32],
        rates: npt.NDArray[np.float32],
        first_step: int,
        view_size: int = FACE_SIZE,
    ) -> float:
        """Make one step for each row of `order`; see `Learner`."""
        total = 0.0
        for start in range(0, len(order), STEPS_PER_CALL):
            part = slice(start, start + STEPS_PER_CALL)
            first = tf.constant(first_step + start)
            steps = tf.constant(order[part]), tf.constant(rates[part]), first
            total += float(self._run_steps(self._shown, *steps, view_size))
        return total / len(order)

    def _show(self, shown: Shown) -> None:
        answers = [] if shown.answers is None else [tf.constant(shown.answers)]
        # Passed to each call, so that the next round of a bank needs no new trace.
        self._shown = (tf.constant(shown.images), tf.constant(shown.targets), answers)

    def _steps(
        self, shown: _Tensors, order: tf.Tensor, rates: tf.Tensor, first_step: tf.Tensor, view_size: int
    ) -> tf.Tensor:
        total = tf.constant(0.0)
        for index in tf.range(tf.shape(order)[0]):
            self._optimiser.learning_rate.assign(rates[index])
            total += self._step(shown, order[index], first_step + index, view_size)
        return total

    def _step(self, shown: _Tensors, picked: tf.Tensor, step: tf.Tensor, view_size: int) -> tf.Tensor:
        seed = tf.stack([self._seed, step])
        images, targets, answers = tf.nest.map_structure(lambda whole: tf.gather(whole, picked), shown)
        views, targets = self._batch((images, targets), self._crops_tensor, seed)
        batch = (views, self._seen(views, seed), targets, answers)
        losses = self._strategy.run(self._move, (batch, step, view_size))
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    def _move(self, batch: _Tensors, step: tf.Tensor, view_size: int) -> tf.Tensor:
        """Learn from this device's part of a batch."""
        if self._part_count > 1:
            part = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Strided, because the non-faces lie together at the front.
            batch = tf.nest.map_structure(lambda whole: whole[part :: self._part_count], batch)
        views, seen, targets, answers = batch
        # Teachers see the same views, but clean and at full size: they were not made for the small ones.
        answers = [*answers, *(teacher(views) for teacher in self._teachers)]
        if view_size != FACE_SIZE:
            seen = tf.image.resize(seen, [view_size, view_size])
        weights = self._model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._model(seen, training=True)
            loss = self._loss(outputs, targets, answers)
            penalties = self._model.losses
            minimised = tf.add_n([loss, *penalties])
        gradients = tape.gradient(minimised, weights)
        allowed = self._allowed(gradients, weights, step)
        if self._part_count > 1:
            # The optimiser adds up what the devices bring, so that each brings its share of the mean.
            allowed = [gradient / self._part_count for gradient in allowed]
        self._optimiser.apply(allowed)
        self._average(step)
        return loss

    def _average(self, step: tf.Tensor) -> None:
        if self._averaged is self._model:
            return
        keep = self._kept_share(step)
        for average, weight in zip(self._averaged.weights, self._model.weights, strict=True):
            average.assign(average + (1.0 - keep) * (weight - average))


def new(lesson: Lesson, devices: Sequence[str]) -> TensorFlowLearner:
    """Build a learner on some devices; see `new_learner`."""
    return TensorFlowLearner(lesson, devices)
