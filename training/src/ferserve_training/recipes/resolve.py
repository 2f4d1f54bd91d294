"""Resolves the recipe of a run: the catalogue's, with the user's values, cut down for a smoke run."""

from collections.abc import Sequence

from ferserve_training.errors import TrainingError
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.recipes.catalog import find_recipe
from ferserve_training.recipes.overrides import overridden
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.recipes.smoke import smoke_version


def resolve_recipe(name: str, overrides: Sequence[str] = (), *, smoke: bool = False) -> Recipe:
    """Put together what a run trains; the same arguments give the same recipe at training and at export.

    Args:
        name: In the catalogue.
        overrides: `name=value` each.
        smoke: Whether to cut it down; the overrides count after that.

    Raises:
        TrainingError: There is no such recipe or setting.
    """
    recipe = find_recipe(name)
    recipe = overridden(smoke_version(recipe) if smoke else recipe, overrides)
    settings = recipe.optimisation
    if isinstance(recipe.net, ChainSpec):
        if settings.grows:
            raise TrainingError(f"{name} is trained at full size; grows is for the fer nets")
        if settings.not_a_face_share:
            raise TrainingError(
                f"{name} has no head for images that are no faces; not_a_face_share is for the fer nets"
            )
        if recipe.net.backbone is not None and settings.precision != "float32":
            raise TrainingError(f"{name} is trained in float32; precision is for nets without a backbone")
    return recipe
