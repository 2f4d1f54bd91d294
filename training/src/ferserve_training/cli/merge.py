"""Defines `ferserve-train merge`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, ModelRepoOption
from ferserve_training.data.load import DataChoice, load_data


def merge(
    versions: Annotated[
        list[Path], typer.Argument(metavar="VERSION_DIR...", help="Folders of two exported versions or more.")
    ],
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the model that is published.")],
    data: DataOption,
    model_repo: ModelRepoOption,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Publish the mean of exported versions' calibrated probabilities as a version, with its figures."""
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.framework.choose import require_tensorflow  # noqa: PLC0415

    require_tensorflow("merging")
    from ferserve_training.export.merge import merge_versions  # noqa: PLC0415

    version = merge_versions(versions, name, faces, model_repo)
    Console(soft_wrap=True).print(f"published {version}")
