"""Decides from the history of a run the next learning rate, its end, and the weights worth keeping."""

import math
from collections.abc import Sequence
from typing import Final

from ferserve_training.loop.records import EpochRecord
from ferserve_training.recipes.recipe import Optimisation, Plateau, Steps

_MIN_GAIN: Final = 1e-4
"""A loss that falls by less has not fallen; Keras's ReduceLROnPlateau has it so."""


def rate_after(settings: Optimisation, history: Sequence[EpochRecord]) -> float:
    """Compute the learning rate of the epoch after `history`, for recipes without a cosine."""
    if isinstance(settings.rate, Plateau):
        return _rate_on_plateau(settings.peak_learning_rate, settings.rate, history)
    rate = settings.peak_learning_rate
    if isinstance(settings.rate, Steps):
        for epoch, new_rate in settings.rate.changes:
            rate = new_rate if len(history) >= epoch else rate
    return rate


def _rate_on_plateau(rate: float, plateau: Plateau, history: Sequence[EpochRecord]) -> float:
    best, wait = math.inf, 0
    for record in history:
        loss = record.loss if plateau.monitor == "training_loss" else record.public_test_loss
        if loss is None:
            continue
        if loss < best - _MIN_GAIN:
            best, wait = loss, 0
            continue
        wait += 1
        if wait >= plateau.patience:
            rate, wait = max(rate * plateau.factor, plateau.least_rate), 0
    return rate


def must_stop(settings: Optimisation, history: Sequence[EpochRecord]) -> bool:
    """Tell whether the validation loss has not fallen for as many epochs as the recipe waits."""
    losses = [record.public_test_loss for record in history if record.public_test_loss is not None]
    if settings.stop_after is None or not losses:
        return False
    return len(losses) - 1 - losses.index(min(losses)) >= settings.stop_after


def is_best(settings: Optimisation, history: Sequence[EpochRecord]) -> bool:
    """Tell whether the last epoch is the best so far by what the recipe keeps; never where it keeps the last."""
    match settings.keeps:
        case "best_accuracy":
            figures = [record.public_test_accuracy for record in history]
        case "best_loss":
            figures = [None if record.public_test_loss is None else -record.public_test_loss for record in history]
        case _:
            return False
    measured = [figure for figure in figures if figure is not None]
    return figures[-1] is not None and figures[-1] > max(measured[:-1], default=-math.inf)


def needs_every_epoch(settings: Optimisation) -> bool:
    """Tell whether the validation faces must be scored after each epoch."""
    watches = isinstance(settings.rate, Plateau) and settings.rate.monitor == "validation_loss"
    return watches or settings.stop_after is not None or settings.keeps != "last"
