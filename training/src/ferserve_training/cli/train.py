"""Defines `ferserve-train train`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption, DevicesOption, FractionOption, FractionSeedOption
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import DataError, TrainingError
from ferserve_training.loop.records import EpochRecord
from ferserve_training.loop.request import RunRequest
from ferserve_training.loop.run_bank import with_bank
from ferserve_training.nets.chain import RANDOM_WEIGHTS, ChainSpec
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.recipes.resolve import resolve_recipe
from ferserve_training.recipes.smoke import SMOKE_FACE_COUNT


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
    threads: Annotated[int, typer.Option(min=1, help="Threads of TensorFlow; JAX takes all cores.")] = 2,
    devices: DevicesOption = None,
    smoke: Annotated[bool, typer.Option(help="Take a few faces and two epochs, to try the machinery.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on after the last finished epoch.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace a value of the recipe; may be repeated."),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN_OR_VERSION",
            help="Learn from the answers of this net too (distillation); given more than once, from their mean.",
        ),
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Learn from the votes of FER+ too, by a second head.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_OR_VERSION", help="Start from the weights of this net, of the same recipe (fine-tuning)."
        ),
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Learn from the views and answers of a `bank` instead of drawing views."),
    ] = None,
    non_faces: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Pictures without people; a quarter of the non-faces in a batch are cut from them."
        ),
    ] = None,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Train a recipe, with a checkpoint after every epoch."""
    overrides = tuple(set_ or ())
    recipe = resolve_recipe(recipe_name, overrides, smoke=smoke)
    request = RunRequest(
        seed,
        epochs,
        max_minutes,
        smoke,
        overrides,
        tuple(str(folder.resolve()) for folder in teacher or ()),
        _absolute(votes),
        _absolute(start),
        _absolute(bank),
        _absolute(non_faces),
    )
    _check(request, recipe)
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))
    if smoke:
        faces = faces.reduced(SMOKE_FACE_COUNT)
    if len(faces.training) < recipe.optimisation.batch_size:
        raise DataError(data, f"holds fewer training faces than one batch ({recipe.optimisation.batch_size})")

    # TensorFlow and JAX take seconds to import; neither --help nor a rejected data set should wait for it.
    from ferserve_training.framework.choose import framework  # noqa: PLC0415
    from ferserve_training.framework.pick_devices import pick_devices  # noqa: PLC0415
    from ferserve_training.loop.inputs import read_inputs  # noqa: PLC0415
    from ferserve_training.loop.precision import faster_precision  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.tensorboard import with_tensorboard  # noqa: PLC0415
    from ferserve_training.loop.train import train as run  # noqa: PLC0415

    framework().limit_threads(threads)
    directory = RunDirectory(run_dir or Path("runs") / f"{recipe.name}-seed{seed or 0}")
    settings = request.settle(recipe, faces.sha256, len(faces.training), framework().versions())
    if resume:
        settings = directory.settings()
        request.check_resumes(settings, recipe.name, faces.sha256)
        if settings.blends:
            raise TrainingError(f"{directory.path}: is a blend, which is finished; go on from it with --start")
        recipe = resolve_recipe(settings.recipe, settings.overrides, smoke=settings.smoke)
    picked = pick_devices(framework().devices(), devices, recipe.optimisation.batch_size)
    if not resume:
        if recipe.optimisation.precision == "auto":
            settings = replace(settings, precision=faster_precision(recipe, picked))
        settings = with_bank(settings, faces)
        directory.create(settings)
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, precision=settings.precision))
    inputs = read_inputs(settings, recipe, faces.training, resume=resume)
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{recipe.name}, seed {settings.seed}, {len(faces.training):,} faces, in {directory.path}{_spread(picked)}"
    )
    if isinstance(recipe.net, ChainSpec) and recipe.net.backbone and recipe.net.weights == RANDOM_WEIGHTS:
        console.print("the backbone starts from random weights, so all of it is trained")
    on_epoch = with_tensorboard(directory.path, lambda record, left: console.print(_line(record, left)))
    checkpoint = run(
        recipe,
        faces,
        settings,
        directory,
        on_epoch,
        inputs,
        devices=picked,
    )
    console.print(f"finished after {len(checkpoint.history)} epochs")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _check(request: RunRequest, recipe: Recipe) -> None:
    """Reject what a recipe cannot learn from.

    Raises:
        TrainingError: Names the option that does not fit.
    """
    if request.votes is not None and isinstance(recipe.net, ChainSpec):
        raise TrainingError(f"{recipe.name} has no head for votes; leave --votes out, or train a fer net")
    if request.bank is not None and request.teachers:
        raise TrainingError("--bank holds its teachers' answers already; leave --teacher out")
    if request.non_faces is not None and not recipe.optimisation.not_a_face_share:
        raise TrainingError(f"{recipe.name} has no head for images that are no faces; leave --non-faces out")


def _spread(devices: Sequence[object]) -> str:
    """Say so where a batch is spread over several devices."""
    return f", on {len(devices)} devices" if len(devices) > 1 else ""


def _line(record: EpochRecord, epochs_left: int) -> str:
    line = (
        f"epoch {record.epoch:4d}  {record.progress:6.1%}  loss {record.loss:.4f}  {record.seconds:5.1f} s"
        f"  about {epochs_left} left"
    )
    if record.public_test_accuracy is not None:
        line += f"  validation {record.public_test_accuracy:.2%}"
    return line
