"""Cuts recipes down until they take seconds: smoke runs prove the machinery, not the net."""

from dataclasses import replace
from typing import Final

from ferserve_training.labels import FACE_SIZE
from ferserve_training.nets.chain import RANDOM_WEIGHTS, ChainSpec
from ferserve_training.recipes.recipe import Recipe

SMOKE_FACE_COUNT: Final = 256
"""Faces kept of each split, at most."""
SMOKE_EPOCHS: Final = 2


def smoke_version(recipe: Recipe) -> Recipe:
    """Shrink a recipe to fit a few dozen faces: small batches, faces not enlarged, no pre-trained weights."""
    net = recipe.net
    if isinstance(net, ChainSpec):
        net = replace(net, input_size=FACE_SIZE, weights=RANDOM_WEIGHTS)
    return replace(
        recipe,
        net=net,
        optimisation=replace(recipe.optimisation, batch_size=16, warmup_steps=2, precision="float32"),
        epochs=SMOKE_EPOCHS,
        evaluate_every_epochs=1,
    )
