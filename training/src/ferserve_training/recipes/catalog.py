"""Lists the recipes by name."""

from collections.abc import Mapping
from types import MappingProxyType

from ferserve_training.errors import TrainingError
from ferserve_training.recipes.fer_base import FER_BASE
from ferserve_training.recipes.fer_large import FER_LARGE
from ferserve_training.recipes.fer_nano import FER_NANO
from ferserve_training.recipes.fer_small import FER_SMALL
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.recipes.seed0_cnn256 import SEED0_CNN256
from ferserve_training.recipes.seed1_vgglite import SEED1_VGGLITE
from ferserve_training.recipes.seed2_cnn import SEED2_CNN
from ferserve_training.recipes.seed2_cnn_aug import SEED2_CNN_AUG
from ferserve_training.recipes.seed2_resnet50 import SEED2_RESNET50
from ferserve_training.recipes.seed2_vgg16 import SEED2_VGG16
from ferserve_training.recipes.seed3_gap512 import SEED3_GAP512
from ferserve_training.recipes.seed4_double3 import SEED4_DOUBLE3

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            FER_NANO,
            FER_SMALL,
            FER_BASE,
            FER_LARGE,
            SEED0_CNN256,
            SEED1_VGGLITE,
            SEED2_CNN,
            SEED2_CNN_AUG,
            SEED2_VGG16,
            SEED2_RESNET50,
            SEED3_GAP512,
            SEED4_DOUBLE3,
        )
    }
)


def find_recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        TrainingError: There is none of that name; the message lists those there are.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise TrainingError(f"no recipe '{name}'; there are: {', '.join(RECIPES)}") from None
