"""Defines `ferserve-train bank`."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import RunError
from ferserve_training.recipes.resolve import resolve_recipe
from ferserve_training.views.bank import BankRound, BankSettings, start_bank


def bank(  # noqa: PLR0913  # one parameter an option
    recipe_name: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Its augmentation draws the views; see `ferserve-train list`.")
    ],
    *,
    data: DataOption,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the bank; a bank in it is extended.")],
    teacher: Annotated[
        list[Path], typer.Option(metavar="RUN_OR_VERSION", help="Net whose answers are stored; may be repeated.")
    ],
    views: Annotated[int, typer.Option(min=1, help="Views of each face; 65 MB each for FER-2013.")] = 32,
    mixed_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the views that are two faces mixed.")
    ] = 0.5,
    mirror: Annotated[bool, typer.Option(help="Average the answers for a view and its mirror image.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of TensorFlow; JAX takes all cores.")] = 2,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Replace a value of the recipe; may be repeated."),
    ] = None,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Store augmented views of the training faces with the teachers' mean answers, for `train --bank`."""
    overrides = tuple(set_ or ())
    recipe = resolve_recipe(recipe_name, overrides)
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))
    names = tuple(f"{folder.resolve()} {_digest(folder)}" for folder in teacher)
    text = " ".join((recipe.name, *overrides))
    settings = BankSettings(text, seed, faces.sha256, len(faces.training), mixed_share, mirror, names)
    made = start_bank(output, settings)

    # TensorFlow and JAX take seconds to import; neither --help nor a rejected folder should wait for it.
    from ferserve_training.framework.choose import framework  # noqa: PLC0415
    from ferserve_training.loop.bank_rounds import draw_round  # noqa: PLC0415
    from ferserve_training.loop.teacher import load_teacher  # noqa: PLC0415

    framework().limit_threads(threads)
    teachers = [load_teacher(folder) for folder in teacher]
    images = faces.training.images

    def make(index: int) -> BankRound:
        return draw_round(
            images, recipe.augmentation, teachers, (seed, index), mixed_share=mixed_share, mirrors=mirror
        )

    console = Console(soft_wrap=True, highlight=False)
    made.extend(views, make, lambda done: console.print(f"{done} of {views} views of {len(images):,} faces"))
    console.print(f"{output}: {made.round_count} views of each face, SHA-256 {made.sha256()}")


def _digest(folder: Path) -> str:
    """Compute the SHA-256 of what tells a run's or a version's weights: its checkpoint, or its manifest.

    Raises:
        RunError: The folder holds neither.
    """
    for name in ("checkpoint.npz", "assets.extra/manifest.json"):
        path = folder / name
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    raise RunError(f"{folder}: holds neither a run nor an exported version to learn from")
