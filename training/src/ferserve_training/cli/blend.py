"""Defines `ferserve-train blend`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, RunArgument
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import RunError


def blend(  # one parameter an option
    run_dir: RunArgument,
    other: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_VERSION", help="Net of the same recipe, such as the one it started from."),
    ],
    target: Annotated[Path, typer.Argument(metavar="NEW_RUN_DIR", help="Folder of the run that is made.")],
    *,
    data: DataOption,
    share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Weight of the other net.")] = 0.5,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Average the weights of a run with those of another net, as a run to be evaluated and exported."""
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.framework.choose import require_tensorflow  # noqa: PLC0415

    require_tensorflow("blending")
    from ferserve_training.loop.blend import blend_run  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415

    trained_on = RunDirectory(run_dir).settings().data_sha256
    if trained_on != faces.sha256:
        raise RunError(f"{run_dir}: was trained on other data than these")
    blend_run(run_dir, other, share, faces.training, RunDirectory(target))
    Console(soft_wrap=True).print(f"made {target}; evaluate it like any run")
