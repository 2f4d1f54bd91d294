"""A training run from its first or its last finished epoch to its end."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from ferserve_training.data.faces import FaceData, LabelledFaces
from ferserve_training.errors import RunError
from ferserve_training.loop.learner import Learner, score
from ferserve_training.loop.records import Checkpoint, EpochRecord, RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.schedule import advance, epoch_order, epochs_left, learning_rates
from ferserve_training.recipes.recipe import Recipe

_GUESSED_EPOCH_SECONDS = 10.0
"""Pace assumed for the first epoch of a run that is limited by time; measured from then on."""


def train(
    recipe: Recipe,
    data: FaceData,
    settings: RunSettings,
    directory: RunDirectory,
    on_epoch: Callable[[EpochRecord, int], None],
) -> Checkpoint:
    """Train until the budget is spent, with a checkpoint after each epoch.

    A run that is limited by epochs alone and is resumed takes the same steps as one that was never interrupted.

    Args:
        recipe: What to train and how.
        data: What to train and to score on.
        settings: Budget and seed.
        directory: Where the run lives; a checkpoint in it is continued.
        on_epoch: Called after each epoch with its record and the estimate of the epochs still to come.

    Returns:
        The last checkpoint.

    Raises:
        RunError: The checkpoint in `directory` cannot be read, or is that of another net.
    """
    learner = Learner(recipe, data.training, settings.seed)
    checkpoint = directory.load() or Checkpoint((), learner.state())
    try:
        learner.restore(checkpoint.state)
    except (KeyError, ValueError) as error:
        raise RunError(f"{directory.path}: its weights do not fit {recipe.name} ({error})") from error
    while to_go := _epochs_to_go(settings, checkpoint.history):
        started = time.monotonic()
        epoch = len(checkpoint.history)
        order = epoch_order(len(data.training), recipe.optimisation.batch_size, settings.seed, epoch)
        before = checkpoint.history[-1].progress if checkpoint.history else 0.0
        after = advance(before, to_go)
        first_step = epoch * len(order)
        rates = learning_rates(recipe.optimisation, (before, after), first_step, len(order))
        loss = learner.train_epoch(order, rates, first_step)
        is_scored = (epoch + 1) % recipe.evaluate_every_epochs == 0 or to_go == 1
        accuracy = _accuracy(learner, data.public_test) if is_scored else None
        record = EpochRecord(epoch + 1, after, loss, accuracy, time.monotonic() - started)
        checkpoint = Checkpoint((*checkpoint.history, record), learner.state())
        directory.save(checkpoint)
        on_epoch(record, _epochs_to_go(settings, checkpoint.history))
    return checkpoint


def _epochs_to_go(settings: RunSettings, history: Sequence[EpochRecord]) -> int:
    if history and history[-1].progress >= 1.0:
        return 0
    seconds = [record.seconds for record in history]
    # A run that came to its time before its schedule still owes the last, cooled-down epoch.
    return max(1, epochs_left(settings.budget, seconds, _GUESSED_EPOCH_SECONDS))


def _accuracy(learner: Learner, faces: LabelledFaces) -> float:
    return float(np.mean(score(learner.averaged, faces.images).argmax(axis=1) == faces.labels))
