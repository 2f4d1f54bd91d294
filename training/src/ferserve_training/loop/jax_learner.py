"""Trains on JAX: one compiled scan over the steps, each batch spread over the devices."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ferserve_training.framework.choose import Tensor
from ferserve_training.labels import FACE_SIZE
from ferserve_training.loop.learner import STEPS_PER_CALL, Learner
from ferserve_training.loop.lesson import Lesson, Shown

_AXIS = "batch"


class _Faces(NamedTuple):
    """Holds the views of an epoch and the crops for non-faces, whole on each device."""

    images: jax.Array
    targets: jax.Array
    answers: jax.Array | None
    crops: jax.Array


class _Values(NamedTuple):
    """Holds what a step changes: trained weights, the rest of the net, the optimiser, averaged weights."""

    trained: list[jax.Array]
    others: list[jax.Array]
    optimiser: list[jax.Array]
    averaged: list[jax.Array]


class JaxLearner(Learner):
    """Trains with JAX.

    All devices hold the same weights and share each batch. To XLA that is one program on the whole batch, so that
    batch norm, mixup and the loss see all of it: the number of devices changes nothing but rounding.

    Args:
        lesson: What to learn.
        devices: At least one.
    """

    def __init__(self, lesson: Lesson, devices: Sequence[jax.Device]) -> None:
        mesh = Mesh(np.asarray(devices), (_AXIS,))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._shared = NamedSharding(mesh, PartitionSpec(_AXIS))
        super().__init__(lesson)
        model, optimiser = self._model, self._optimiser
        self._variables_of = _Values(
            model.trainable_variables,
            model.non_trainable_variables,
            optimiser.variables,
            [] if self._averaged is model else self._averaged.weights,
        )
        changing = [*model.trainable_variables, *model.non_trainable_variables]
        places = {id(variable): place for place, variable in enumerate(changing)}
        self._places = [places[id(weight)] for weight in model.weights]
        self._rate_place = [variable.name for variable in optimiser.variables].index("learning_rate")
        # Compiled once for each size of the views and each number of steps, of which there are two.
        self._run_steps = jax.jit(self._steps, static_argnames="view_size", donate_argnames="values")

    def train_epoch(
        self,
        order: npt.NDArray[np.int32],
        rates: npt.NDArray[np.float32],
        first_step: int,
        view_size: int = FACE_SIZE,
    ) -> float:
        """Make one step for each row of `order`; see `Learner`."""
        held = _Values(*([variable.value for variable in variables] for variables in self._variables_of))
        # Copied, because what is passed to the steps is theirs to overwrite.
        values: _Values = jax.tree.map(jnp.copy, jax.device_put(held, self._whole))
        total = 0.0
        for start in range(0, len(order), STEPS_PER_CALL):
            part = slice(start, start + STEPS_PER_CALL)
            numbers = np.arange(first_step, first_step + len(order), dtype=np.int32)[part]
            values, loss = self._run_steps(
                values, self._faces, (order[part], rates[part], numbers), view_size=view_size
            )
            total += float(loss)
        for variables, kept in zip(self._variables_of, values, strict=True):
            for variable, value in zip(variables, kept, strict=True):
                variable.assign(value)
        return total / len(order)

    def _show(self, shown: Shown) -> None:
        faces = _Faces(shown.images, shown.targets, shown.answers, self._crops)
        self._faces: _Faces = jax.device_put(faces, self._whole)

    def _steps(
        self, values: _Values, faces: _Faces, steps: tuple[jax.Array, ...], view_size: int
    ) -> tuple[_Values, jax.Array]:
        def step(values: _Values, each: tuple[jax.Array, ...]) -> tuple[_Values, jax.Array]:
            return self._step(values, faces, each, view_size)

        values, losses = jax.lax.scan(step, values, steps)
        return values, jnp.sum(losses)

    def _step(
        self, values: _Values, faces: _Faces, each: tuple[jax.Array, ...], view_size: int
    ) -> tuple[_Values, jax.Array]:
        picked, rate, number = each
        picked = jax.lax.with_sharding_constraint(picked, self._shared)
        seed = jnp.stack([jnp.asarray(self._seed, jnp.int32), number])
        views, targets = self._batch((faces.images[picked], faces.targets[picked]), faces.crops, seed)
        views = jax.lax.with_sharding_constraint(views, self._shared)
        seen = self._seen(views, seed)
        # Teachers see the same views, but clean and at full size: they were not made for the small ones.
        answers = [teacher(views) for teacher in self._teachers]
        if faces.answers is not None:
            answers.append(faces.answers[picked])
        if view_size != FACE_SIZE:
            seen = keras.ops.image.resize(seen, (view_size, view_size))

        def minimised(trained: list[jax.Array]) -> tuple[Tensor, tuple[Tensor, list[jax.Array]]]:
            outputs, others, penalties = self._model.stateless_call(
                trained, values.others, seen, training=True, return_losses=True
            )
            loss = self._loss(outputs, targets, answers)
            return loss + sum(penalties), (loss, others)

        (_, (loss, others)), gradients = jax.value_and_grad(minimised, has_aux=True)(values.trained)
        optimiser = list(values.optimiser)
        optimiser[self._rate_place] = rate
        trained, optimiser = self._optimiser.stateless_apply(
            optimiser, self._allowed(gradients, values.trained, number), values.trained
        )
        moved = _Values(trained, others, optimiser, self._averages(values.averaged, [*trained, *others], number))
        return moved, loss

    def _averages(self, averages: list[jax.Array], changed: list[jax.Array], number: jax.Array) -> list[jax.Array]:
        if not averages:
            return []
        gone = 1.0 - self._kept_share(number)
        weights = [changed[place] for place in self._places]
        return [average + gone * (weight - average) for average, weight in zip(averages, weights, strict=True)]


def new(lesson: Lesson, devices: Sequence[jax.Device]) -> JaxLearner:
    """Build a learner on some devices; none: on JAX's first."""
    return JaxLearner(lesson, devices or jax.local_devices()[:1])
