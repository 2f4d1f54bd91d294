"""Replaces values of a recipe for one run: `--set name=value`."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from ferserve_training.errors import TrainingError
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.recipes.recipe import Recipe

_NET_FIELDS: Final = ("input_size", "weights")


def overridden(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Replace fields of a recipe's optimisation, augmentation or net.

    Args:
        recipe: What to start from.
        settings: `name=value` each: the name of a field of `Optimisation` or `Augmentation`, or for nets that
            are chains of layers `input_size` or `weights`; the value as JSON, or a bare word.

    Returns:
        The recipe with the values in place.

    Raises:
        TrainingError: There is no such name, or the value is of another kind than the field's.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise TrainingError(f"--set {setting}: expected name=value")
        recipe = _with(recipe, name.strip().replace("-", "_"), text.strip())
    return recipe


def names_of(recipe: Recipe) -> tuple[str, ...]:
    """List what `overridden` can replace."""
    nets = _NET_FIELDS if isinstance(recipe.net, ChainSpec) else ()
    parts = (recipe.optimisation, recipe.augmentation)
    return (*(field.name for part in parts for field in dataclasses.fields(part) if field.name != "rate"), *nets)


def _with(recipe: Recipe, name: str, text: str) -> Recipe:
    if name not in names_of(recipe):
        raise TrainingError(f"{recipe.name} has no setting '{name}'; there are: {', '.join(names_of(recipe))}")
    for part_name in ("optimisation", "augmentation", "net"):
        part = getattr(recipe, part_name)
        if name in {field.name for field in dataclasses.fields(part)}:
            value = _value_like(getattr(part, name), name, text)
            changed: Any = dataclasses.replace(part, **{name: value})
            return dataclasses.replace(recipe, **{part_name: changed})
    raise AssertionError(name)


_WORDS: Final = {
    "algorithm": ("sgd", "adam"),
    "keeps": ("last", "best_accuracy", "best_loss"),
    "fill": ("REFLECT", "NEAREST"),
    "precision": ("auto", "float32", "bfloat16"),
}
_MINIMUMS: Final = {"batch_size": 1, "input_size": 32, "stop_after": 1, "peak_learning_rate": 1e-12}


def _value_like(present: object, name: str, text: str) -> object:
    """Read a value of the kind that a field has."""
    if isinstance(present, str):
        if name in _WORDS and text not in _WORDS[name]:
            raise TrainingError(f"--set {name}={text}: expected one of {', '.join(_WORDS[name])}")
        return text
    try:
        value = json.loads(text)
    except ValueError:
        raise TrainingError(f"--set {name}={text}: not a number, true, false, null or list") from None
    if name == "stop_after" and value is None:
        return None
    if isinstance(present, bool) or isinstance(value, bool):
        fits = isinstance(present, bool) and isinstance(value, bool)
    elif isinstance(present, tuple):
        fits = isinstance(value, list) and len(value) == 2 and all(isinstance(each, int | float) for each in value)
        value = tuple(value) if fits else value
    elif isinstance(present, int) or name == "stop_after":
        fits = isinstance(value, int) and value >= _MINIMUMS.get(name, 0)
    else:
        fits = isinstance(value, int | float) and value >= _MINIMUMS.get(name, 0)
    if not fits:
        raise TrainingError(f"--set {name}={text}: is no fit for {json.dumps(present)}")
    return value
