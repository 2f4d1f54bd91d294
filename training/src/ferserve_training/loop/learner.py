"""A net in training: its weights, its optimiser, its averaged weights, and the step that moves them."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.augment import augment
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.labels import CLASS_COUNT, FACE_SIZE
from ferserve_training.loop.records import State
from ferserve_training.loop.targets import (
    class_weights,
    label_loss,
    mix,
    smooth_targets,
    teacher_loss,
    vote_loss,
)
from ferserve_training.loop.teacher import Teacher
from ferserve_training.nets.build import build_net
from ferserve_training.nets.trainable import logits_only
from ferserve_training.recipes.recipe import Optimisation, Recipe

_STEPS_PER_CALL = 32  # one call into TensorFlow a second or two: cheap, and Ctrl-C still answers
_SCORING_BATCH = 512
_SCORING_VALUES = 1 << 26  # of the largest map of a batch: 256 MiB


class Learner:
    """Trains one net on one data set. Not thread-safe.

    Args:
        recipe: What to train and how; its precision is 'float32' or 'bfloat16'.
        faces: The training split; kept in memory as uint8.
        seed: Seed of the initial weights and of all draws.
        teachers: Whose mean answer counts beside the labels, if there are any.
        votes: Shares of FER+'s votes, float32 [N, 10], for a second head; None: no such head.
    """

    def __init__(
        self,
        recipe: Recipe,
        faces: LabelledFaces,
        seed: int,
        teachers: Sequence[Teacher] = (),
        votes: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self._recipe = recipe
        self._seed = seed
        self._teachers = tuple(teachers)
        self._votes = None if votes is None else tf.constant(votes)
        self._images = tf.constant(faces.images)
        self._labels = tf.constant(faces.labels)
        settings = recipe.optimisation
        self._class_weights = tf.constant(class_weights(faces.labels, balanced=settings.balances_classes))
        self._head_steps = settings.head_epochs * (len(faces) // settings.batch_size)
        with_votes = votes is not None
        self._model = build_net(recipe.net, seed, precision=settings.precision, with_votes=with_votes)
        self._averaged = self._model
        if settings.ema_decay or settings.precision != "float32":
            self._averaged = build_net(recipe.net, seed, with_votes=with_votes)
            self._averaged.set_weights(self._model.get_weights())
        self._classifier = logits_only(self._averaged)
        self._best: list[npt.NDArray[np.float32]] = []
        self._optimiser = _optimiser(settings)
        self._optimiser.build(self._model.trainable_variables)
        # Traced once for each size of the views and each number of steps, of which there are two.
        self._run_steps = tf.function(self._steps)

    @property
    def averaged(self) -> keras.Model:
        """The net with the averaged weights, or the net itself where the recipe averages none: what is scored."""
        return self._classifier

    def keep_as_best(self) -> None:
        """Set the present weights aside: they are exported, unless better ones come."""
        self._best = [np.asarray(weight).copy() for weight in self._averaged.weights]

    def train_epoch(
        self,
        order: npt.NDArray[np.int32],
        rates: npt.NDArray[np.float32],
        first_step: int,
        view_size: int = FACE_SIZE,
    ) -> float:
        """Make one step for each row of `order`.

        Args:
            order: int32 [steps, batch], indices of faces.
            rates: float32 [steps], the learning rate of each step.
            first_step: Steps made before; with the seed it decides the views.
            view_size: Side of the views in pixels.

        Returns:
            The mean loss of the steps, in nats.
        """
        total = 0.0
        for start in range(0, len(order), _STEPS_PER_CALL):
            part = slice(start, start + _STEPS_PER_CALL)
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
        settings = self._recipe.optimisation
        seed = tf.stack([self._seed, step])
        views = augment(tf.gather(self._images, picked), seed, self._recipe.augmentation)
        targets = smooth_targets(tf.gather(self._labels, picked), settings.label_smoothing)
        if self._votes is not None:
            targets = tf.concat([targets, tf.gather(self._votes, picked)], axis=1)
        if settings.mixup:
            views, targets = mix(views, targets, seed, settings.mixup)
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
        self._optimiser.apply(self._allowed(gradients, weights, step))
        self._average(step)
        return loss

    def _loss(
        self, outputs: tf.Tensor | list[tf.Tensor], targets: tf.Tensor, answers: list[tf.Tensor]
    ) -> tf.Tensor:
        """Weigh what the labels, the teachers and FER+'s taggers say."""
        settings = self._recipe.optimisation
        logits = outputs if self._votes is None else outputs[0]
        loss = label_loss(logits, targets[:, :CLASS_COUNT], self._class_weights)
        if answers:
            taught = teacher_loss(logits, answers, settings)
            loss = (1.0 - settings.teacher_share) * loss + settings.teacher_share * taught
        if self._votes is not None:
            loss += settings.vote_share * vote_loss(outputs[1], targets[:, CLASS_COUNT:])
        return loss

    def _allowed(
        self, gradients: list[tf.Tensor], weights: list[keras.Variable], step: tf.Tensor
    ) -> list[tf.Tensor]:
        """Add the weight decay, and hold a backbone still while only the head is trained."""
        decay = self._recipe.optimisation.weight_decay
        if decay:
            gradients = [
                gradient + decay * weight if weight.name == "kernel" else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
        if self._head_steps:
            # A gradient that was never anything but 0 moves nothing, Adam's included.
            share = tf.cast(step >= self._head_steps, tf.float32)
            held = {id(weight) for weight in backbone_weights(self._model)}
            gradients = [
                gradient * share if id(weight) in held else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
        return gradients

    def _average(self, step: tf.Tensor) -> None:
        if self._averaged is self._model:
            return
        # The ramp keeps the random initial weights out of the average (as in TensorFlow's moving averages).
        made = tf.cast(step, tf.float32)
        keep = tf.minimum(self._recipe.optimisation.ema_decay, (1.0 + made) / (10.0 + made))
        for average, weight in zip(self._averaged.weights, self._model.weights, strict=True):
            average.assign(average + (1.0 - keep) * (weight - average))

    def state(self) -> State:
        """Copy everything that the next step depends on, by stable names."""
        parts: dict[str, list[keras.Variable]] = {**self._variables(), "best": self._best}
        return {
            f"{part}/{index}": np.asarray(variable)
            for part, variables in parts.items()
            for index, variable in enumerate(variables)
        }

    def restore(self, state: State) -> None:
        """Put back what `state` gave.

        Raises:
            KeyError: A variable is missing.
            ValueError: A variable has another shape.
        """
        for part, variables in self._variables().items():
            for index, variable in enumerate(variables):
                variable.assign(state[f"{part}/{index}"])
        if "best/0" in state:
            self._best = [np.asarray(state[f"best/{i}"], np.float32) for i in range(len(self._model.weights))]

    def _variables(self) -> dict[str, list[keras.Variable]]:
        known = {id(weight) for weight in self._model.weights}
        draws = {id(each): each for each in self._model.variables if id(each) not in known}
        return {
            "weights": self._model.weights,
            "averaged": [] if self._averaged is self._model else self._averaged.weights,
            "optimiser": self._optimiser.variables,
            "draws": list(draws.values()),
        }


def backbone_weights(model: keras.Model) -> list[keras.Variable]:
    """Give the trained weights of the nets inside a net."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [weight for layer in inner for weight in layer.trainable_variables]


def _optimiser(settings: Optimisation) -> keras.optimizers.Optimizer:
    if settings.algorithm == "adam":
        return keras.optimizers.Adam(settings.peak_learning_rate)
    return keras.optimizers.SGD(settings.peak_learning_rate, settings.momentum, nesterov=True)


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
    batch = min(_SCORING_BATCH, max(1, _SCORING_VALUES // largest))
    parts = [
        np.asarray(model(images[start : start + batch].astype(np.float32), training=False))
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)
