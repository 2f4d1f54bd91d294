"""Defines `ferserve-train evaluate`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, ModelArgument
from ferserve_training.data.faces import FaceData
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import RunError
from ferserve_training.evaluation.record import write_evaluation
from ferserve_training.evaluation.scores import Evaluation
from ferserve_training.evaluation.scores import evaluate as compute
from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.report.result_of import result_of_run, result_of_version, this_machine
from ferserve_training.report.results import Result, write_result


def evaluate(  # one parameter an option
    model: ModelArgument,
    *,
    data: DataOption,
    result: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the figures there too, for `ferserve-train results`."),
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="What trained it, in words, for the result.", show_default="this machine")
    ] = None,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Score a run or an exported version on PublicTest or your own validation faces.

    A run keeps the figures and the temperature for its export; a version is not changed.
    """
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))
    score_it = _evaluate_run if (model / "run.json").exists() else _evaluate_version
    evaluation, found = score_it(model, faces, machine or this_machine())
    Console().print(_table(evaluation))
    if result is not None:
        write_result(found, result)


def _evaluate_run(run_folder: Path, faces: FaceData, machine: str) -> tuple[Evaluation, Result]:
    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.export.recipe_text import recipe_text  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.trained import load_trained  # noqa: PLC0415
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415

    trained = load_trained(RunDirectory(run_folder))
    is_twin_free = _twin_free(run_folder, trained.settings.data_sha256, faces)
    answers = load_model(run_folder).answers_of(faces.public_test.images)
    evaluation = compute(
        answers.logits,
        faces.public_test.labels,
        is_twin_free,
        trained.weights_sha256,
        faces.split,
        not_a_face=answers.not_a_face,
    )
    write_evaluation(evaluation, run_folder)
    net = (trained.recipe.net.mac_count, trained.recipe.net.parameter_count)
    text = recipe_text(trained.settings)
    return evaluation, result_of_run(text, net, trained.history, evaluation, machine)


def _evaluate_version(folder: Path, faces: FaceData, machine: str) -> tuple[Evaluation, Result]:
    from ferserve_training.export.manifest import read_manifest  # noqa: PLC0415  # as above
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415

    model = load_model(folder)
    manifest = read_manifest(folder)
    is_twin_free = _twin_free(folder, model.data_sha256, faces)
    answers = model.answers_of(faces.public_test.images)
    evaluation = compute(
        answers.logits,
        faces.public_test.labels,
        is_twin_free,
        manifest["files"]["saved_model.pb"],
        faces.split,
        model.temperature,
        answers.not_a_face,
    )
    return evaluation, result_of_version(manifest, evaluation, machine)


def _twin_free(model: Path, trained_on: str, faces: FaceData) -> npt.NDArray[np.bool_]:
    if faces.sha256 != trained_on:
        raise RunError(f"{model}: was trained on other data than these; twins could not be found")
    return find_twin_free(faces.public_test.images, faces.training.images)


def _table(evaluation: Evaluation) -> Table:
    table = Table("figure", "value", box=None, title=f"{evaluation.split}, {evaluation.face_count:,} faces")
    for name, value in evaluation.metrics.items():
        table.add_row(name.removeprefix(evaluation.prefix).replace("_", " "), f"{value:.4f}")
    table.add_row("twin-free faces", f"{evaluation.twin_free_count:,}")
    table.add_row("temperature", f"{evaluation.temperature:.4f}")
    table.add_row("uncertain below", f"{evaluation.decisions.uncertain_threshold:.2f}")
    table.add_row("not a face above", f"{evaluation.decisions.not_a_face_threshold:.2f}")
    return table
