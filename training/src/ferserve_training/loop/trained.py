"""The net that a run has made so far."""

import hashlib
from dataclasses import dataclass

import keras
import numpy as np

from ferserve_training.errors import RunError
from ferserve_training.loop.records import EpochRecord, RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.nets.trainable import build_trainable
from ferserve_training.recipes.catalog import find_recipe
from ferserve_training.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """The averaged weights of a run's last checkpoint.

    Attributes:
        recipe: How it was trained.
        settings: Of the run.
        history: All epochs.
        model: From grey levels, float32 [N, 48, 48, 1], to logits, float32 [N, 7].
        weights_sha256: Digest of the weights.
    """

    recipe: Recipe
    settings: RunSettings
    history: tuple[EpochRecord, ...]
    model: keras.Model
    weights_sha256: str


def load_trained(directory: RunDirectory) -> Trained:
    """Load the net of a run.

    Raises:
        RunError: There is no run, no finished epoch yet, or its weights fit no net of that name.
        TrainingError: The run's recipe is not in the catalogue any more.
    """
    settings = directory.settings()
    checkpoint = directory.load()
    if checkpoint is None:
        raise RunError(f"{directory.path}: has not finished its first epoch")
    recipe = find_recipe(settings.recipe)
    model = build_trainable(recipe.net, seed=0)
    digest = hashlib.sha256()
    try:
        weights = [checkpoint.state[f"averaged/{index}"] for index in range(len(model.weights))]
        model.set_weights(weights)
    except (KeyError, ValueError) as error:
        raise RunError(f"{directory.path}: its weights do not fit {recipe.name} ({error})") from error
    for values in weights:
        digest.update(np.ascontiguousarray(values).tobytes())
    return Trained(recipe, settings, checkpoint.history, model, digest.hexdigest())
