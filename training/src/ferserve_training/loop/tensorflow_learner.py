"""The learner on TensorFlow: some steps a call, compiled by `tf.function`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.framework.on_tensorflow import strategy_on
from ferserve_training.labels import FACE_SIZE
from ferserve_training.loop.learner import STEPS_PER_CALL, Learner, Lesson


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
        self._images = tf.constant(lesson.faces.images)
        self._labels = tf.constant(lesson.faces.labels)
        self._votes = None if lesson.votes is None else tf.constant(lesson.votes)
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
            total += float(self._run_steps(*steps, view_size))
        return total / len(order)

    def _steps(self, order: tf.Tensor, rates: tf.Tensor, first_step: tf.Tensor, view_size: int) -> tf.Tensor:
        total = tf.constant(0.0)
        for index in tf.range(tf.shape(order)[0]):
            self._optimiser.learning_rate.assign(rates[index])
            total += self._step(order[index], first_step + index, view_size)
        return total

    def _step(self, picked: tf.Tensor, step: tf.Tensor, view_size: int) -> tf.Tensor:
        seed = tf.stack([self._seed, step])
        votes = None if self._votes is None else tf.gather(self._votes, picked)
        images, labels = tf.gather(self._images, picked), tf.gather(self._labels, picked)
        views, targets = self._batch(images, labels, votes, seed)
        losses = self._strategy.run(self._move, (views, targets, step, view_size))
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    def _move(self, views: tf.Tensor, targets: tf.Tensor, step: tf.Tensor, view_size: int) -> tf.Tensor:
        """Learn from this device's part of a batch."""
        if self._part_count > 1:
            part = tf.distribute.get_replica_context().replica_id_in_sync_group
            size = tf.shape(views)[0] // self._part_count
            views, targets = (whole[part * size : (part + 1) * size] for whole in (views, targets))
        # Teachers see the same views, but at full size: they were not made for the small ones.
        answers = [teacher(views) for teacher in self._teachers]
        if view_size != FACE_SIZE:
            views = tf.image.resize(views, [view_size, view_size])
        weights = self._model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._model(views, training=True)
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
