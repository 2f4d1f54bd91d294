"""Defines `ferserve-train export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import ModelRepoOption, RunArgument
from ferserve_training.evaluation.record import read_evaluation
from ferserve_training.evaluation.robustness_record import read_robustness, run_robustness
from ferserve_training.export.onnx_weights import OnnxWeights


class OnnxChoice(StrEnum):
    """Values of `--onnx`."""

    FLOAT32 = OnnxWeights.FLOAT32.value
    INT16 = OnnxWeights.INT16.value
    NONE = "none"


def export(
    run_dir: RunArgument,
    *,
    model_repo: ModelRepoOption,
    onnx: Annotated[
        OnnxChoice,
        typer.Option(help="Weights of assets.extra/model.onnx: int16 halves the file; none writes no such file."),
    ] = OnnxChoice.FLOAT32,
    parent: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Figures of the version before, of `robustness --result`, for the card's table."
        ),
    ] = None,
) -> None:
    """Publish an evaluated run as the next version in a model repository."""
    evaluation = read_evaluation(run_dir)
    before = None if parent is None else read_robustness(parent)
    robustness = run_robustness(run_dir, evaluation.weights_sha256)

    # TensorFlow takes seconds to import; a run without figures should not wait for it.
    from ferserve_training.framework.choose import require_tensorflow  # noqa: PLC0415

    require_tensorflow("exporting")
    from ferserve_training.export.export import export_version  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.trained import load_trained  # noqa: PLC0415

    weights = None if onnx is OnnxChoice.NONE else OnnxWeights(onnx)
    version = export_version(
        load_trained(RunDirectory(run_dir)),
        evaluation,
        model_repo,
        onnx=weights,
        robustness=robustness,
        parent=before,
    )
    Console(soft_wrap=True).print(f"published {version}")
