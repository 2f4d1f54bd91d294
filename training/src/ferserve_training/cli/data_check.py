"""Defines `ferserve-train data-check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import FractionOption, FractionSeedOption
from ferserve_training.data.duplicates import count_duplicates
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import DataError, TrainingError
from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.labels import LABELS


def data_check(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="FER-2013 as zip archive, folder or csv file, or your own set.")
    ],
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Read a whole data set and say what is in it; files at fault are named, each on a line."""
    faults: list[DataError] = []
    try:
        faces = load_data(DataChoice(data, validation_fraction, validation_seed), faults.append)
    except DataError as error:
        raise TrainingError("\n".join(map(str, (*faults, error)))) from error
    table = Table("split", *LABELS, "all", box=None)
    for name, split in (("training", faces.training), (faces.split, faces.public_test)):
        table.add_row(name, *(f"{count:,}" for count in split.class_counts()), f"{len(split):,}")
    console = Console(soft_wrap=True)
    console.print(table)
    copies = count_duplicates(faces)
    console.print(f"copies inside training: {copies.in_training:,}; inside {faces.split}: {copies.in_scored:,}")
    console.print(f"{faces.split} faces that training holds too: {copies.across:,}")
    console.print(f"faces under more than one label: {copies.conflicting:,}")
    is_twin_free = find_twin_free(faces.public_test.images, faces.training.images)
    console.print(f"{faces.split} faces without a twin in training: {int(is_twin_free.sum()):,}")
    console.print(f"SHA-256 {faces.sha256}")
    if faults:
        raise TrainingError("\n".join(map(str, faults)))
