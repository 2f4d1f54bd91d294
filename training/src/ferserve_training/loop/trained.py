"""Loads the net that a run has made so far."""

import hashlib
from dataclasses import dataclass

import keras
import numpy as np

from ferserve_training.errors import RunError
from ferserve_training.loop.records import EpochRecord, RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.nets.build import build_net
from ferserve_training.nets.trainable import logits_only, not_a_face_output
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.recipes.resolve import resolve_recipe


@dataclass(frozen=True, slots=True)
class Trained:
    """Holds the weights of a run: the best epoch's where its recipe picks one, else the last, averaged.

    Attributes:
        recipe: How it was trained.
        settings: Of the run.
        history: All epochs.
        model: From grey levels, float32 [N, 48, 48, 1], to logits, float32 [N, 7], and of FER+'s votes, float32
            [N, 10], where the run learnt from them, and of no face, float32 [N, 1], where it has that head.
        weights_sha256: Digest of the weights.
    """

    recipe: Recipe
    settings: RunSettings
    history: tuple[EpochRecord, ...]
    model: keras.Model
    weights_sha256: str

    @property
    def classifier(self) -> keras.Model:
        """Returns the part with the seven logits."""
        return logits_only(self.model)

    @property
    def answering(self) -> keras.Model:
        """Returns the part with the seven logits and, where there is that head, the logit of no face."""
        not_a_face = not_a_face_output(self.model)
        if not_a_face is None:
            return self.classifier
        logits = self.model.outputs[0]
        columns = keras.layers.Concatenate()([logits, not_a_face.outputs[0]])
        return keras.Model(self.model.inputs[0], columns)


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
    recipe = resolve_recipe(settings.recipe, settings.overrides, smoke=settings.smoke)
    model = build_net(
        recipe.net,
        seed=0,
        pretrained=False,
        with_votes=settings.votes is not None,
        with_not_a_face=recipe.optimisation.not_a_face_share > 0,
    )
    digest = hashlib.sha256()
    try:
        part = next(name for name in ("best", "averaged", "weights") if f"{name}/0" in checkpoint.state)
        weights = [checkpoint.state[f"{part}/{index}"] for index in range(len(model.weights))]
        model.set_weights(weights)
    except (KeyError, ValueError, StopIteration) as error:
        raise RunError(f"{directory.path}: its weights do not fit {recipe.name} ({error})") from error
    for values in weights:
        digest.update(np.ascontiguousarray(values).tobytes())
    return Trained(recipe, settings, checkpoint.history, model, digest.hexdigest())
