"""Makes a training run from its first or its last finished epoch to its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ferserve_training.data.faces import FaceData, LabelledFaces
from ferserve_training.errors import RunError
from ferserve_training.evaluation.calibration import negative_log_likelihood
from ferserve_training.framework.choose import Device
from ferserve_training.loop.inputs import LessonInputs
from ferserve_training.loop.learner import Learner, new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.progress import is_best, must_stop, needs_every_epoch, rate_after
from ferserve_training.loop.records import Checkpoint, EpochRecord, RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.schedule import advance, epoch_order, epochs_left, learning_rates, view_size
from ferserve_training.loop.scoring import score
from ferserve_training.recipes.recipe import Recipe

_GUESSED_EPOCH_SECONDS = 10.0
"""Pace assumed for the first epoch of a run that is limited by time; measured from then on."""


def train(
    recipe: Recipe,
    data: FaceData,
    settings: RunSettings,
    directory: RunDirectory,
    on_epoch: Callable[[EpochRecord, int], None],
    inputs: LessonInputs | None = None,
    *,
    devices: Sequence[Device] = (),
) -> Checkpoint:
    """Train until the budget is spent, with a checkpoint after each epoch.

    A run that is limited by epochs alone and is resumed takes the same steps as one that was never interrupted.

    Args:
        recipe: What to train and how; its precision is not 'auto'.
        data: What to train and to score on.
        settings: Budget and seed.
        directory: Where the run lives; a checkpoint in it is continued.
        on_epoch: Called after each epoch with its record and the estimate of the epochs still to come.
        inputs: What else it learns from; None: nothing.
        devices: What each batch is spread over; none: the framework's first.

    Returns:
        The last checkpoint.

    Raises:
        RunError: The checkpoint in `directory` cannot be read or is that of another net, or a round of the bank is
            damaged.
    """
    other = inputs or LessonInputs()
    lesson = Lesson(
        recipe,
        data.training,
        settings.seed,
        other.teachers,
        other.votes,
        other.start,
        other.bank,
        other.non_face_crops,
    )
    learner = new_learner(lesson, devices)
    checkpoint = directory.load() or Checkpoint((), learner.state())
    try:
        learner.restore(checkpoint.state)
    except (KeyError, ValueError) as error:
        raise RunError(f"{directory.path}: its weights do not fit {recipe.name} ({error})") from error
    while to_go := _epochs_to_go(settings, checkpoint.history):
        record = _epoch(recipe, data, settings, (learner, checkpoint.history, to_go))
        history = (*checkpoint.history, record)
        if must_stop(recipe.optimisation, history):
            history = (*checkpoint.history, replace(record, progress=1.0))
        if is_best(recipe.optimisation, history):
            learner.keep_as_best()
        checkpoint = Checkpoint(history, learner.state())
        directory.save(checkpoint)
        on_epoch(history[-1], _epochs_to_go(settings, checkpoint.history))
    return checkpoint


def _epoch(
    recipe: Recipe,
    data: FaceData,
    settings: RunSettings,
    position: tuple[Learner, tuple[EpochRecord, ...], int],
) -> EpochRecord:
    """Make one epoch; `position` is the net, the history so far, and the epochs still to go."""
    learner, history, to_go = position
    optimisation = recipe.optimisation
    started = time.monotonic()
    epoch = len(history)
    order = epoch_order(len(data.training), optimisation.batch_size, settings.seed, epoch)
    before = history[-1].progress if history else 0.0
    after = advance(before, to_go)
    first_step = epoch * len(order)
    if optimisation.rate is None:
        rates = learning_rates(optimisation, (before, after), first_step, len(order))
    else:
        rates = np.full(len(order), rate_after(optimisation, history), np.float32)
    learner.begin_epoch(epoch)
    loss = learner.train_epoch(order, rates, first_step, view_size(optimisation, before))
    is_due = (epoch + 1) % recipe.evaluate_every_epochs == 0 or to_go == 1 or needs_every_epoch(optimisation)
    accuracy, surprise = _figures(learner, data.public_test) if is_due else (None, None)
    seconds = time.monotonic() - started
    return EpochRecord(epoch + 1, after, loss, accuracy, seconds, float(rates[-1]), surprise)


def _epochs_to_go(settings: RunSettings, history: Sequence[EpochRecord]) -> int:
    if history and history[-1].progress >= 1.0:
        return 0
    seconds = [record.seconds for record in history]
    # A run that came to its time before its schedule still owes the last, cooled-down epoch.
    return max(1, epochs_left(settings.budget, seconds, _GUESSED_EPOCH_SECONDS))


def _figures(learner: Learner, faces: LabelledFaces) -> tuple[float, float]:
    """Measure accuracy and mean surprise."""
    logits = score(learner.averaged, faces.images)
    accuracy = float(np.mean(logits.argmax(axis=1) == faces.labels))
    return accuracy, negative_log_likelihood(logits, faces.labels)
