"""Loads the weights of a run that does not start from random ones."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import RunError
from ferserve_training.framework.choose import require_tensorflow
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.trained import load_trained
from ferserve_training.nets.build import build_net
from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.unfolding import STATISTICS_FACE_COUNT, unfold
from ferserve_training.recipes.recipe import Recipe

Weights = list[npt.NDArray[np.float32]]
"""Of a net, in the order of the Keras model that `build_net` builds."""


def starting_weights(folder: Path, recipe: Recipe, faces: LabelledFaces, *, with_votes: bool) -> Weights:
    """Give the weights of a trained net to go on from.

    Args:
        folder: Of a run, or of an exported version of a net of convolutions.
        recipe: What is to be trained.
        faces: The training split.
        with_votes: Whether the net gets a head for votes.

    Raises:
        RunError: There is no net in the folder, or one of another shape.
        TrainingError: It is an exported version, and TensorFlow does not compute.
    """
    with_not_a_face = recipe.optimisation.not_a_face_share > 0
    model = build_net(recipe.net, seed=0, pretrained=False, with_votes=with_votes, with_not_a_face=with_not_a_face)
    try:
        if (folder / "run.json").exists():
            model.set_weights(load_trained(RunDirectory(folder)).model.get_weights())
        else:
            if not (folder / "saved_model.pb").exists():
                raise RunError(f"{folder}: holds neither a run nor an exported version to start from")
            if not isinstance(recipe.net, NetSpec):
                raise RunError(f"{folder}: {recipe.name} can go on from a run only, not from an exported version")
            require_tensorflow(f"{folder} is an exported version; starting from it, other than from a run,")
            from ferserve_training.nets.stored_net import read_folded  # noqa: PLC0415  # may not be there

            unfold(read_folded(folder, recipe.net), model, faces.spread(STATISTICS_FACE_COUNT).images)
    except ValueError as error:
        raise RunError(f"{folder}: its net is not that of {recipe.name} ({error})") from error
    weights: Weights = model.get_weights()
    return weights
