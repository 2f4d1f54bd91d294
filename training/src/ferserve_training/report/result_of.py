"""Builds the results of a run and of an exported version."""

import os
import platform
from pathlib import Path
from typing import Any, Final

from ferserve_training.evaluation.scores import Evaluation
from ferserve_training.loop.records import EpochRecord
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.report.results import Result

_PROCESSOR_FILE: Final = Path("/proc/cpuinfo")


def result_of_run(
    recipe_text: str,
    net: tuple[int, int],
    history: tuple[EpochRecord, ...],
    evaluation: Evaluation,
    machine: str,
) -> Result:
    """Put the result of a run together.

    Args:
        recipe_text: The recipe's name, with what the user changed in it.
        net: Multiply-accumulates a face, and parameters.
        history: All epochs.
        evaluation: Its figures.
        machine: What trained it.
    """
    minutes = sum(record.seconds for record in history) / 60
    return _result(
        recipe_text.split(maxsplit=1)[0], recipe_text, evaluation, (len(history), minutes), net, machine
    )


def result_of_version(manifest: dict[str, Any], evaluation: Evaluation, machine: str) -> Result:
    """Put the result of an exported version together.

    Args:
        manifest: Of the version.
        evaluation: Its figures.
        machine: What trained it.
    """
    made = manifest["training"]
    net = (manifest["mac_count"], manifest["parameter_count"])
    model = f"{manifest['name']}/{manifest['version']}"
    return _result(model, made["recipe"], evaluation, (made["epochs"], made["minutes"]), net, machine)


def this_machine() -> str:
    """Name the processor at hand: `2 cores, AMD EPYC`."""
    name = platform.processor() or platform.machine()
    if _PROCESSOR_FILE.exists():
        lines = _PROCESSOR_FILE.read_text("utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{os.cpu_count()} cores, {name}"


def _result(  # one argument a source of figures
    model: str,
    recipe_text: str,
    evaluation: Evaluation,
    made_in: tuple[int, float],
    net: tuple[int, int],
    machine: str,
) -> Result:
    figures = {name.removeprefix(evaluation.prefix): value for name, value in evaluation.metrics.items()}
    recipe = RECIPES.get(recipe_text.split(maxsplit=1)[0])
    return Result(
        model=model,
        recipe=recipe_text,
        published=None if recipe is None else recipe.published,
        split=evaluation.split,
        face_count=evaluation.face_count,
        accuracy=figures["accuracy"],
        accuracy_low_95=figures["accuracy_low_95"],
        accuracy_high_95=figures["accuracy_high_95"],
        twin_free_accuracy=figures["twin_free_accuracy"],
        macro_f1=figures["macro_f1"],
        ece=figures["ece"],
        ece_uncalibrated=figures["ece_uncalibrated"],
        epochs=made_in[0],
        minutes=round(made_in[1], 1),
        mac_count=net[0],
        parameter_count=net[1],
        machine=machine,
    )
