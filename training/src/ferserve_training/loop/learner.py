"""A net in training, whatever computes it: its weights, its optimiser, its averaged weights, what it is asked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.augment import augment
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.framework.choose import Device, Tensor, framework
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

STEPS_PER_CALL = 32
"""Steps of one call into the framework, a second or two: cheap, and Ctrl-C still answers."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a net is to learn, and from whom.

    Attributes:
        recipe: What to train and how; its precision is 'float32' or 'bfloat16'.
        faces: The training split; kept in memory as uint8.
        seed: Seed of the initial weights and of all draws.
        teachers: Whose mean answer counts beside the labels, if there are any.
        votes: Shares of FER+'s votes, float32 [N, 10], for a second head; None: no such head.
        start: Weights to go on from, in the order of the Keras model; None: random ones.
    """

    recipe: Recipe
    faces: LabelledFaces
    seed: int
    teachers: Sequence[Teacher] = ()
    votes: npt.NDArray[np.float32] | None = None
    start: Sequence[npt.NDArray[np.float32]] | None = None


class Learner(ABC):
    """Trains one net on one data set. Not thread-safe.

    Args:
        lesson: What to learn.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._recipe = recipe = lesson.recipe
        self._seed = seed = lesson.seed
        self._teachers = lesson.teachers
        self._has_votes = lesson.votes is not None
        settings = recipe.optimisation
        self._class_weights = class_weights(lesson.faces.labels, balanced=settings.balances_classes)
        self._head_steps = settings.head_epochs * (len(lesson.faces) // settings.batch_size)
        self._model = build_net(recipe.net, seed, precision=settings.precision, with_votes=self._has_votes)
        if lesson.start is not None:
            self._model.set_weights(list(lesson.start))
        self._averaged = self._model
        if settings.ema_decay or settings.precision != "float32":
            self._averaged = build_net(recipe.net, seed, with_votes=self._has_votes)
            self._averaged.set_weights(self._model.get_weights())
        self._classifier = logits_only(self._averaged)
        self._best: list[npt.NDArray[np.float32]] = []
        self._optimiser = _optimiser(settings)
        self._optimiser.build(self._model.trainable_variables)

    @property
    def averaged(self) -> keras.Model:
        """The net with the averaged weights, or the net itself where the recipe averages none: what is scored."""
        return self._classifier

    def keep_as_best(self) -> None:
        """Set the present weights aside: they are exported, unless better ones come."""
        self._best = [np.asarray(weight).copy() for weight in self._averaged.weights]

    @abstractmethod
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

    def _batch(self, images: Tensor, labels: Tensor, votes: Tensor | None, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the views of picked faces and what they should be called, votes in columns after the classes."""
        settings = self._recipe.optimisation
        views = augment(images, seed, self._recipe.augmentation)
        targets = smooth_targets(labels, settings.label_smoothing)
        if votes is not None:
            targets = ops.concatenate([targets, votes], axis=1)
        if settings.mixup:
            views, targets = mix(views, targets, seed, settings.mixup)
        return views, targets

    def _loss(self, outputs: Tensor | list[Tensor], targets: Tensor, answers: Sequence[Tensor]) -> Tensor:
        """Weigh what the labels, the teachers and FER+'s taggers say."""
        settings = self._recipe.optimisation
        logits = outputs[0] if self._has_votes else outputs
        loss = label_loss(logits, targets[:, :CLASS_COUNT], self._class_weights)
        if answers:
            taught = teacher_loss(logits, answers, settings)
            loss = (1.0 - settings.teacher_share) * loss + settings.teacher_share * taught
        if self._has_votes:
            loss = loss + settings.vote_share * vote_loss(outputs[1], targets[:, CLASS_COUNT:])
        return loss

    def _allowed(self, gradients: Sequence[Tensor], values: Sequence[Tensor], step: Tensor) -> list[Tensor]:
        """Add the weight decay, and hold a backbone still while only the head is trained.

        Args:
            gradients: One for each trained weight of the net.
            values: Of these weights.
            step: Number of the step, int32.
        """
        weights = self._model.trainable_variables
        decay = self._recipe.optimisation.weight_decay
        allowed = [
            gradient + decay * value if decay and weight.name == "kernel" else gradient
            for gradient, value, weight in zip(gradients, values, weights, strict=True)
        ]
        if not self._head_steps:
            return allowed
        # A gradient that was never anything but 0 moves nothing, Adam's included.
        share = ops.cast(step >= self._head_steps, "float32")
        held = {id(weight) for weight in backbone_weights(self._model)}
        return [
            gradient * share if id(weight) in held else gradient
            for gradient, weight in zip(allowed, weights, strict=True)
        ]

    def _kept_share(self, step: Tensor) -> Tensor:
        """Tell how much of the averaged weights a step leaves."""
        # The ramp keeps the random initial weights out of the average (as in TensorFlow's moving averages).
        made = ops.cast(step, "float32")
        return ops.minimum(self._recipe.optimisation.ema_decay, (1.0 + made) / (10.0 + made))

    def state(self) -> State:
        """Copy everything that the next step depends on, by names that are the same on every framework."""
        parts: dict[str, list[keras.Variable]] = {**self._variables(), "best": self._best}
        return {
            f"{part}/{index}": np.asarray(variable).copy()
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


def new_learner(lesson: Lesson, devices: Sequence[Device] = ()) -> Learner:
    """Build the learner of the framework in use.

    Args:
        lesson: What to learn.
        devices: Each computes an equal part of every batch, whose size is a multiple of their number; none: the
            framework's first.
    """
    module = import_module(f"ferserve_training.loop.{framework().NAME}_learner")
    learner: Learner = module.new(lesson, devices)
    return learner


def backbone_weights(model: keras.Model) -> list[keras.Variable]:
    """Give the trained weights of the nets inside a net."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [weight for layer in inner for weight in layer.trainable_variables]


def _optimiser(settings: Optimisation) -> keras.optimizers.Optimizer:
    if settings.algorithm == "adam":
        return keras.optimizers.Adam(settings.peak_learning_rate)
    return keras.optimizers.SGD(settings.peak_learning_rate, settings.momentum, nesterov=True)
