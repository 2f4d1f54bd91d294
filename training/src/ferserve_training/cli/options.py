"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="PATH",
        help="FER-2013 as zip archive or folder: train/<emotion>/* and test/<emotion>/*.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a training run.")]
