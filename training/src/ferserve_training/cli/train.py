"""`ferserve-train train`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import DataError
from ferserve_training.loop.records import EpochRecord
from ferserve_training.loop.request import RunRequest
from ferserve_training.recipes.catalog import find_recipe
from ferserve_training.recipes.smoke import SMOKE_FACE_COUNT, smoke_version


def train(  # noqa: PLR0913  # one parameter an option
    recipe_name: Annotated[str, typer.Argument(metavar="RECIPE", help="One of `ferserve-train list`.")],
    *,
    data: DataOption,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run lives.", show_default="runs/<RECIPE>-seed<SEED>")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training faces.", show_default="the recipe's")
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Fit the schedule into so many minutes; the pace is measured."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights and draws.", show_default="0")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of TensorFlow.")] = 2,
    smoke: Annotated[bool, typer.Option(help="Take a few faces and two epochs, to try the machinery.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on after the last finished epoch.")] = False,
) -> None:
    """Train a recipe, with a checkpoint after every epoch."""
    recipe = find_recipe(recipe_name)
    if smoke:
        recipe = smoke_version(recipe)
    request = RunRequest(seed, epochs, max_minutes, smoke)
    faces = load_faces(data)
    if smoke:
        faces = faces.reduced(SMOKE_FACE_COUNT)
    if len(faces.training) < recipe.optimisation.batch_size:
        raise DataError(data, f"holds fewer training faces than one batch ({recipe.optimisation.batch_size})")

    # TensorFlow takes seconds to import; neither --help nor a refused data set should wait for it.
    from ferserve_training.framework import limit_threads, versions  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.train import train as run  # noqa: PLC0415

    limit_threads(threads)
    directory = RunDirectory(run_dir or Path("runs") / f"{recipe.name}-seed{seed or 0}")
    settings = request.settle(recipe, faces.sha256, len(faces.training), versions())
    if resume:
        settings = directory.settings()
        request.check_resumes(settings, recipe.name, faces.sha256)
    else:
        directory.create(settings)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{recipe.name}, seed {settings.seed}, {len(faces.training):,} faces, in {directory.path}")
    checkpoint = run(recipe, faces, settings, directory, lambda record, left: console.print(_line(record, left)))
    console.print(f"finished after {len(checkpoint.history)} epochs")


def _line(record: EpochRecord, epochs_left: int) -> str:
    line = (
        f"epoch {record.epoch:4d}  {record.progress:6.1%}  loss {record.loss:.4f}  {record.seconds:5.1f} s"
        f"  about {epochs_left} left"
    )
    if record.public_test_accuracy is not None:
        line += f"  PublicTest {record.public_test_accuracy:.2%}"
    return line
