"""`ferserve-train data-check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ferserve_training.data.folders import load_faces
from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.labels import LABELS


def data_check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="FER-2013 as zip archive or folder.")],
) -> None:
    """Read a whole data set and say what is in it."""
    faces = load_faces(data)
    table = Table("split", *LABELS, "all", box=None)
    for name, split in (("training", faces.training), ("PublicTest", faces.public_test)):
        table.add_row(name, *(f"{count:,}" for count in split.class_counts()), f"{len(split):,}")
    console = Console()
    console.print(table)
    is_twin_free = find_twin_free(faces.public_test.images, faces.training.images)
    console.print(f"PublicTest faces without a twin in training: {int(is_twin_free.sum()):,}")
    console.print(f"SHA-256 {faces.sha256}", soft_wrap=True)
