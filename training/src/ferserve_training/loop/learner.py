"""Holds a net in training on either framework: weights, optimiser, averaged weights, loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from importlib import import_module

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.framework.choose import Device, Tensor, framework
from ferserve_training.labels import CLASS_COUNT, FACE_SIZE, VOTE_COUNT
from ferserve_training.loop.lesson import Lesson, Shown
from ferserve_training.loop.records import State
from ferserve_training.loop.targets import (
    class_weights,
    label_loss,
    mix,
    not_a_face_loss,
    smooth_targets,
    teacher_loss,
    vote_loss,
)
from ferserve_training.nets.build import build_net
from ferserve_training.nets.trainable import logits_only
from ferserve_training.recipes.recipe import Optimisation
from ferserve_training.views.augmentation import augment, mirror
from ferserve_training.views.degradation import degrade
from ferserve_training.views.non_faces import count_non_faces, non_faces

STEPS_PER_CALL = 32
"""Steps of one call into the framework, a second or two: cheap, and Ctrl-C still answers."""

_MIN_PROBABILITY = 1e-8
"""Keeps the logarithm of a bank's probabilities finite."""
_CROP_DRAWS = 1 << 23


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
        self._bank = lesson.bank
        self._has_crops = lesson.non_face_crops is not None
        self._has_not_a_face = recipe.optimisation.not_a_face_share > 0
        settings = recipe.optimisation
        self._class_weights = class_weights(lesson.faces.labels, balanced=settings.balances_classes)
        self._head_steps = settings.head_epochs * (len(lesson.faces) // settings.batch_size)
        build = partial(
            build_net, recipe.net, seed, with_votes=self._has_votes, with_not_a_face=self._has_not_a_face
        )
        self._model = build(precision=settings.precision)
        if lesson.start is not None:
            self._model.set_weights(list(lesson.start))
        self._averaged = self._model
        if settings.ema_decay or settings.precision != "float32":
            self._averaged = build()
            self._averaged.set_weights(self._model.get_weights())
        self._classifier = logits_only(self._averaged)
        self._best: list[npt.NDArray[np.float32]] = []
        self._optimiser = _optimiser(settings)
        self._optimiser.build(self._model.trainable_variables)
        targets = smooth_targets(lesson.faces.labels, settings.label_smoothing)
        self._targets = targets if lesson.votes is None else np.concatenate([targets, lesson.votes], axis=1)
        crops = lesson.non_face_crops
        self._crops = np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.uint8) if crops is None else crops
        self._show(Shown(lesson.faces.images, self._targets, None))

    @property
    def averaged(self) -> keras.Model:
        """Returns the net to score: with averaged weights, or as it is where the recipe averages none."""
        return self._classifier

    def keep_as_best(self) -> None:
        """Set the present weights aside: they are exported, unless better ones come."""
        self._best = [np.asarray(weight).copy() for weight in self._averaged.weights]

    def begin_epoch(self, epoch: int) -> None:
        """Show the views of an epoch, from 0; without a bank every epoch draws its own.

        Raises:
            RunError: The bank's round cannot be read.
        """
        if self._bank is None:
            return
        shown = self._bank.read(epoch % self._bank.round_count)
        answers = np.log(np.maximum(shown.probabilities, _MIN_PROBABILITY))
        self._show(Shown(shown.images, shown.mix(self._targets), answers))

    @abstractmethod
    def _show(self, shown: Shown) -> None:
        """Pick batches from these arrays from now on."""

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

    def _batch(self, picked: tuple[Tensor, Tensor], crops: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the views of picked faces, some of them replaced by non-faces, and what they should be called.

        Args:
            picked: Images, uint8 [N, 48, 48, 1], and targets, float32 [N, any].
            crops: All crops of pictures without people, uint8 [M, 48, 48, 1].
            seed: int32 [2]; it alone decides the draws.

        Returns:
            float32 [N, 48, 48, 1], and the targets; where the net tells non-faces, the last column marks them.
        """
        settings = self._recipe.optimisation
        images, targets = picked
        if self._bank is not None:
            views = mirror(images, seed, self._recipe.augmentation.flip_probability)
        else:
            views = augment(images, seed, self._recipe.augmentation)
            if settings.mixup:
                views, targets = mix(views, targets, seed, settings.mixup)
        return self._with_non_faces(views, targets, crops, seed) if self._has_not_a_face else (views, targets)

    def _with_non_faces(
        self, views: Tensor, targets: Tensor, crops: Tensor, seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace the first views of a batch, whose order is random; of a non-face every class is as likely."""
        count = count_non_faces(self._recipe.optimisation.batch_size)
        draws = framework().uniform([count], seed, _CROP_DRAWS)
        index = ops.cast(ops.floor(draws * len(self._crops)), "int32")
        made = non_faces(views[:count], ops.cast(ops.take(crops, index, axis=0), "float32"), self._has_crops, seed)
        width = targets.shape[1]
        of_non_face = np.concatenate([np.full(CLASS_COUNT, 1 / CLASS_COUNT), np.zeros(width - CLASS_COUNT), [1.0]])
        rows = ops.tile(ops.convert_to_tensor(of_non_face.astype(np.float32)[np.newaxis]), [count, 1])
        faces = targets[count:]
        faces = ops.concatenate([faces, ops.zeros_like(faces[:, :1])], axis=1)
        return ops.concatenate([made, views[count:]], axis=0), ops.concatenate([rows, faces], axis=0)

    def _seen(self, views: Tensor, seed: Tensor) -> Tensor:
        """Degrade the views as the recipe says: the net sees these, its teachers the clean ones."""
        probability = self._recipe.augmentation.degrade_probability
        return degrade(views, seed, probability) if probability else views

    def _loss(self, outputs: Tensor | list[Tensor], targets: Tensor, answers: Sequence[Tensor]) -> Tensor:
        """Weigh what the labels, the teachers, FER+'s taggers and the marks of non-faces say."""
        settings = self._recipe.optimisation
        heads = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        logits = heads[0]
        loss = label_loss(logits, targets[:, :CLASS_COUNT], self._class_weights)
        if answers:
            if self._has_not_a_face:
                # Teachers answer for non-faces too, and should not: logits of 0 make every class as likely.
                answers = [answer * (1.0 - targets[:, -1:]) for answer in answers]
            taught = teacher_loss(logits, answers, settings)
            loss = (1.0 - settings.teacher_share) * loss + settings.teacher_share * taught
        if self._has_votes:
            shares = targets[:, CLASS_COUNT : CLASS_COUNT + VOTE_COUNT]
            loss = loss + settings.vote_share * vote_loss(heads[1], shares)
        if self._has_not_a_face:
            loss = loss + settings.not_a_face_share * not_a_face_loss(heads[-1][:, 0], targets[:, -1])
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
