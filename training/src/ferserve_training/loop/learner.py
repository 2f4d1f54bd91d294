"""A net in training: its weights, its optimiser, its averaged weights, and the step that moves them."""

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.augment import augment
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.labels import CLASS_COUNT
from ferserve_training.loop.records import State
from ferserve_training.nets.trainable import build_trainable
from ferserve_training.recipes.recipe import Recipe

_STEPS_PER_CALL = 32  # one call into TensorFlow a second or two: cheap, and Ctrl-C still answers
_SCORING_BATCH = 512


class Learner:
    """Trains one net on one data set. Not thread-safe.

    Args:
        recipe: What to train and how.
        faces: The training split; kept in memory as uint8.
        seed: Seed of the initial weights and of all draws.
    """

    def __init__(self, recipe: Recipe, faces: LabelledFaces, seed: int) -> None:
        self._recipe = recipe
        self._seed = seed
        self._images = tf.constant(faces.images)
        self._labels = tf.constant(faces.labels)
        self._model = build_trainable(recipe.net, seed)
        self._averaged = build_trainable(recipe.net, seed)
        self._averaged.set_weights(self._model.get_weights())
        self._optimiser = keras.optimizers.SGD(
            recipe.optimisation.peak_learning_rate, recipe.optimisation.momentum, nesterov=True
        )
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
        """The net with the averaged weights: what is scored and exported."""
        return self._averaged

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
        views = augment(tf.gather(self._images, picked), tf.stack([self._seed, step]), self._recipe.augmentation)
        smoothing = settings.label_smoothing
        targets = tf.one_hot(tf.gather(self._labels, picked), CLASS_COUNT)
        targets = targets * (1.0 - smoothing) + smoothing / CLASS_COUNT
        weights = self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._model(views, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        gradients = tape.gradient(loss, weights)
        self._optimiser.apply(
            [
                gradient + settings.weight_decay * weight if weight.name == "kernel" else gradient
                for gradient, weight in zip(gradients, weights, strict=True)
            ]
        )
        # The ramp keeps the random initial weights out of the average (as in TensorFlow's moving averages).
        made = tf.cast(step, tf.float32)
        keep = tf.minimum(settings.ema_decay, (1.0 + made) / (10.0 + made))
        for average, weight in zip(self._averaged.weights, self._model.weights, strict=True):
            average.assign(average + (1.0 - keep) * (weight - average))
        return loss

    def state(self) -> State:
        """Copy everything that the next step depends on, by stable names."""
        return {
            f"{part}/{index}": np.asarray(variable)
            for part, variables in self._variables().items()
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

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {
            "weights": self._model.weights,
            "averaged": self._averaged.weights,
            "optimiser": self._optimiser.variables,
        }


def score(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Run a net on images, one forward pass each.

    Args:
        model: From grey levels to logits.
        images: uint8 [N, 48, 48, 1].

    Returns:
        Logits, float32 [N, 7].
    """
    parts = [
        np.asarray(model(images[start : start + _SCORING_BATCH].astype(np.float32), training=False))
        for start in range(0, len(images), _SCORING_BATCH)
    ]
    return np.concatenate(parts)
