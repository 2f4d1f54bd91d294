"""Defines `ferserve-train quantize`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, ModelRepoOption
from ferserve_training.data.load import DataChoice, load_data


def quantize(
    version: Annotated[
        Path, typer.Argument(metavar="VERSION_DIR", help="Folder of an exported version with an ONNX file.")
    ],
    *,
    data: DataOption,
    model_repo: ModelRepoOption,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the model that is published.", show_default="the version's, -int8"),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="How far the accuracy may fall, as a share: 0.003 is 0.3 points.")
    ] = 0.003,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Publish an exported version in int8, as an ONNX file, if its accuracy stays."""
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.framework.choose import require_tensorflow  # noqa: PLC0415

    require_tensorflow("quantising")
    from ferserve_training.export.manifest import read_manifest  # noqa: PLC0415
    from ferserve_training.export.quantize import quantize_version  # noqa: PLC0415

    name = name or f"{read_manifest(version)['name']}-int8"
    made = quantize_version(version, name, faces, model_repo, max_drop=max_drop)
    Console(soft_wrap=True).print(
        f"published {made.folder}; accuracy on {faces.split} {made.accuracy:.2%} in int8, "
        f"{made.accuracy_before:.2%} before"
    )
