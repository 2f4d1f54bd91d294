"""Lays a run out over its epochs or its minutes, and computes the learning rate from that."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.labels import FACE_SIZE
from ferserve_training.recipes.recipe import Optimisation

_PACE_WINDOW: Final = 5
"""Epochs that the pace is the median of: one epoch beside a busy neighbour must not shorten the run."""

VIEW_SIZES: Final = ((0.4, 32), (0.8, 40))
"""Up to which part of a run the views have how many pixels a side; the rest has the full size. The small ones cost
0.44 and 0.69 of it, so that a run of given time makes half as many epochs more."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits what a run may spend; with both limits the first one reached ends it.

    Attributes:
        epochs: Passes over the training faces, or None for no limit.
        seconds: Wall-clock seconds over all sittings of the run, or None for no limit.
    """

    epochs: int | None
    seconds: float | None

    def __post_init__(self) -> None:
        """Reject a budget without limits."""
        if self.epochs is None and self.seconds is None:
            raise ValueError("a run needs a limit of epochs or seconds")


def epochs_left(budget: Budget, epoch_seconds: Sequence[float], guess_seconds: float) -> int:
    """Estimate how many whole epochs the budget still pays for.

    Args:
        budget: The limits of the run.
        epoch_seconds: What each epoch so far has taken.
        guess_seconds: The pace to assume before the first epoch.

    Returns:
        At least 0.
    """
    limits = []
    if budget.epochs is not None:
        limits.append(budget.epochs - len(epoch_seconds))
    if budget.seconds is not None:
        pace = statistics.median(epoch_seconds[-_PACE_WINDOW:]) if epoch_seconds else guess_seconds
        limits.append(int((budget.seconds - sum(epoch_seconds)) / pace))
    return max(0, min(limits))


def advance(progress: float, epochs_to_go: int) -> float:
    """Tell where the schedule stands after the next epoch.

    What is left of the schedule is spread evenly over the epochs that are left, so that the learning rate reaches
    zero at the end of the budget however the pace changes.

    Args:
        progress: Position before the epoch, 0 to 1.
        epochs_to_go: Epochs left, the next one included; at least 1.
    """
    return 1.0 if epochs_to_go <= 1 else progress + (1.0 - progress) / epochs_to_go


def learning_rates(
    optimisation: Optimisation, span: tuple[float, float], first_step: int, step_count: int
) -> npt.NDArray[np.float32]:
    """Compute the learning rate of each step of an epoch: a cosine over the progress times a linear warm-up.

    Args:
        optimisation: Peak and warm-up.
        span: Progress before and after the epoch, 0 to 1.
        first_step: Steps made before the epoch.
        step_count: Steps of the epoch.

    Returns:
        float32 [step_count].
    """
    progress = np.linspace(*span, step_count, endpoint=False)
    warmup = np.minimum(1.0, (first_step + 1 + np.arange(step_count)) / max(1, optimisation.warmup_steps))
    cosine = 0.5 * (1.0 + np.cos(math.pi * progress))
    return np.asarray(optimisation.peak_learning_rate * warmup * cosine, np.float32)


def view_size(optimisation: Optimisation, progress: float) -> int:
    """Tell how many pixels a side the views of an epoch have.

    Args:
        optimisation: Whether they grow.
        progress: Position before the epoch, 0 to 1.
    """
    if optimisation.grows:
        for until, size in VIEW_SIZES:
            if progress < until:
                return size
    return FACE_SIZE


def epoch_order(face_count: int, batch_size: int, seed: int, epoch: int) -> npt.NDArray[np.int32]:
    """Shuffle the faces of an epoch into full batches; the rest sits this epoch out.

    Args:
        face_count: Faces of the training split, at least `batch_size`.
        batch_size: Faces a step.
        seed: Seed of the run.
        epoch: Number of the epoch from 0; another order each time, the same for the same seed.

    Returns:
        int32 [steps, batch_size], indices of faces.
    """
    order = np.random.default_rng((seed, epoch)).permutation(face_count)
    step_count = face_count // batch_size
    return order[: step_count * batch_size].reshape(step_count, batch_size).astype(np.int32)
