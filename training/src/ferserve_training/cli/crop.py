"""Defines `ferserve-train crop`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.data.photographs import cut_photographs
from ferserve_training.errors import DataError


def crop(
    photographs: Annotated[Path, typer.Argument(metavar="DIR", help="Folder or archive of photographs.")],
    output: Annotated[Path, typer.Argument(metavar="FACES_DIR", help="Folder that the faces are written to.")],
) -> None:
    """Cut the largest face out of each photograph, for `--data`; folders of emotions stay as they are."""
    cut = cut_photographs(photographs, output)
    console = Console(soft_wrap=True, highlight=False)
    for path in cut.without_face:
        console.print(f"{path}: no face found", markup=False)
    for path in cut.with_several:
        console.print(f"{path}: several faces, the largest was taken", markup=False)
    total = len(cut.written) + len(cut.without_face)
    console.print(f"{len(cut.written):,} faces of {total:,} photographs in {output}", markup=False)
    if not cut.written:
        raise DataError(photographs, "shows no face that the detector finds; it finds upright frontal faces only")
