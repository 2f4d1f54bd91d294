"""The table of recipes."""

from collections.abc import Mapping
from types import MappingProxyType

from ferserve_training.errors import TrainingError
from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.recipe import Augmentation, Optimisation, Recipe

_FER_NANO = Recipe(
    name="fer-nano",
    summary="4.6 M MACs a face: for a CPU, or many faces a frame",
    # Stride 2 at once: full-resolution maps cost most of the MACs of a net on 48 pixels and bring little.
    net=NetSpec(
        (
            ConvSpec(16, stride=2),
            ConvSpec(32, stride=2),
            ConvSpec(32, residual=True),
            ConvSpec(64, stride=2),
            ConvSpec(64, residual=True),
            ConvSpec(96, stride=2),
        )
    ),
    # Geometry and hardly any other noise. Version 1, of 224 epochs, ended at 76 % on plain training faces and 65 %
    # on PublicTest, where it hardly moved after epoch 120: more regularisation, or a teacher, is worth a try.
    augmentation=Augmentation(),
    optimisation=Optimisation(),
    epochs=200,
)

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in (_FER_NANO,)})


def find_recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        TrainingError: There is none of that name; the message lists those there are.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise TrainingError(f"no recipe '{name}'; there are: {', '.join(RECIPES)}") from None
