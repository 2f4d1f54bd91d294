"""Defines `ferserve-train robustness`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, ModelArgument
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.data.non_faces import cut_non_faces
from ferserve_training.evaluation.robustness import Robustness
from ferserve_training.evaluation.robustness_record import keep_run_robustness, write_robustness


def robustness(
    model: ModelArgument,
    *,
    data: DataOption,
    non_faces: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures without people that the net has not learnt from."),
    ] = None,
    result: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures there, for `ferserve-train results`.")
    ] = None,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Score a run or version on degraded faces, on faces detected again, and on images that are no faces.

    A run keeps the figures for the card of its export.
    """
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))
    crops = None if non_faces is None else cut_non_faces(non_faces)

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.export.manifest import read_manifest  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.trained import load_trained  # noqa: PLC0415
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415
    from ferserve_training.report.robustness import measure_robustness  # noqa: PLC0415

    is_run = (model / "run.json").exists()
    asked = load_model(model)
    name = asked.name
    if not is_run:
        manifest = read_manifest(model)
        name = f"{manifest['name']}/{manifest['version']}"
    measured = measure_robustness(asked, name, faces.public_test, faces.split, crops)
    if is_run:
        measured = replace(measured, weights_sha256=load_trained(RunDirectory(model)).weights_sha256)
        keep_run_robustness(measured, model)
    _print(measured)
    if result is not None:
        write_robustness(measured, result)


def _print(measured: Robustness) -> None:
    console = Console(soft_wrap=True)
    table = Table(
        "faces", "accuracy", "95 % interval", "against the same unchanged", "calibration error", box=None
    )
    for each in measured.degraded:
        table.add_row(
            f"{each.name}, {each.face_count:,}",
            f"{each.accuracy:.2%}",
            f"{each.low_95:.2%} to {each.high_95:.2%}",
            f"{each.accuracy - each.accuracy_unchanged:+.2%}",
            f"{each.ece:.4f}",
        )
    console.print(table)
    for kind in measured.non_faces:
        console.print(
            f"not a face, {kind.name}: ROC area {kind.roc_auc:.4f}, {kind.rejected_share:.1%} above the threshold"
        )
    if measured.rejected_faces_share is not None:
        console.print(
            f"faces above the threshold of {measured.not_a_face_threshold}: {measured.rejected_faces_share:.2%}"
        )
