"""A net in training: its weights, its optimiser, its averaged weights, and the step that moves them."""

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.augment import augment
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.loop.records import State
from ferserve_training.loop.targets import class_weights, label_loss, mix, smooth_targets, teacher_loss
from ferserve_training.loop.teacher import Teacher
from ferserve_training.nets.build import build_net
from ferserve_training.recipes.recipe import Optimisation, Recipe

_STEPS_PER_CALL = 32  # one call into TensorFlow a second or two: cheap, and Ctrl-C still answers
_SCORING_BATCH = 512
_SCORING_VALUES = 1 << 26  # of the largest map of a batch: 256 MiB


class Learner:
    """Trains one net on one data set. Not thread-safe.

    Args:
        recipe: What to train and how.
        faces: The training split; kept in memory as uint8.
        seed: Seed of the initial weights and of all draws.
        teacher: Whose answers count beside the labels, if any.
    """

    def __init__(self, recipe: Recipe, faces: LabelledFaces, seed: int, teacher: Teacher | None = None) -> None:
        self._recipe = recipe
        self._seed = seed
        self._teacher = teacher
        self._images = tf.constant(faces.images)
        self._labels = tf.constant(faces.labels)
        settings = recipe.optimisation
        self._class_weights = tf.constant(class_weights(faces.labels, balanced=settings.balances_classes))
        self._head_steps = settings.head_epochs * (len(faces) // settings.batch_size)
        self._model = build_net(recipe.net, seed)
        self._averaged = self._model
        if settings.ema_decay:
            self._averaged = build_net(recipe.net, seed)
            self._averaged.set_weights(self._model.get_weights())
        self._best: list[npt.NDArray[np.float32]] = []
        self._optimiser = _optimiser(settings)
        self._optimiser.build(self._model.trainable_variables)
        self._run_steps = tf.function(
            self._steps,
            input_signature=[
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
        )

    @property
    def averaged(self) -> keras.Model:
        """The net with the averaged weights, or the net itself where the recipe averages none: what is scored."""
        return self._averaged

    def keep_as_best(self) -> None:
        """Set the present weights aside: they are exported, unless better ones come."""
        self._best = [np.asarray(weight).copy() for weight in self._averaged.weights]

    def train_epoch(self, order: npt.NDArray[np.int32], rates: npt.NDArray[np.float32], first_step: int) -> float:
        """Make one step for each row of `order`.

        Args:
            order: int32 [steps, batch], indices of faces.
            rates: float32 [steps], the learning rate of each step.
            first_step: Steps made before; with the seed it decides the views.

        Returns:
            The mean loss of the steps, in nats.
        """
        total = 0.0
        for start in range(0, len(order), _STEPS_PER_CALL):
            part = slice(start, start + _STEPS_PER_CALL)
            total += float(self._run_steps(order[part], rates[part], first_step + start))
        return total / len(order)

    def _steps(self, order: tf.Tensor, rates: tf.Tensor, first_step: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for index in tf.range(tf.shape(order)[0]):
            self._optimiser.learning_rate.assign(rates[index])
            total += self._step(order[index], first_step + index)
        return total

    def _step(self, picked: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        settings = self._recipe.optimisation
        seed = tf.stack([self._seed, step])
        views = augment(tf.gather(self._images, picked), seed, self._recipe.augmentation)
        targets = smooth_targets(tf.gather(self._labels, picked), settings.label_smoothing)
        if settings.mixup:
            views, targets = mix(views, targets, seed, settings.mixup)
        weights = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(views, training=True)
            loss = label_loss(logits, targets, self._class_weights)
            if self._teacher is not None:
                taught = teacher_loss(logits, self._teacher(views), settings)
                loss = (1.0 - settings.teacher_share) * loss + settings.teacher_share * taught
            penalties = self._model.losses
            minimised = tf.add_n([loss, *penalties])
        gradients = tape.gradient(minimised, weights)
        self._optimiser.apply(self._allowed(gradients, weights, step))
        self._average(step)
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
    largest = max(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    batch = min(_SCORING_BATCH, max(1, _SCORING_VALUES // largest))
    parts = [
        np.asarray(model(images[start : start + batch].astype(np.float32), training=False))
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts)
