"""Defines the arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def read_device_count(text: str) -> int | None:
    """Read the number of devices; None stands for all.

    Raises:
        typer.BadParameter: It is neither 'all' nor a number above 0.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"'{text}' is neither 'all' nor a number above 0")
    return int(text)


DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="PATH",
        help="FER-2013 as zip archive, folder or csv file, or a folder of your own with one folder a class.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a training run.")]
ModelRepoOption = Annotated[
    Path, typer.Option("--model-repo", metavar="DIR", help="Root of the model repository.")
]
ModelArgument = Annotated[
    Path, typer.Argument(metavar="RUN_OR_VERSION", help="Folder of a training run or of an exported version.")
]
VersionArgument = Annotated[Path, typer.Argument(metavar="VERSION", help="Folder of an exported version.")]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="all|N",
        parser=read_device_count,
        help="GPUs that share each batch, or parts of the CPU where there is no GPU.",
        show_default="all GPUs",
    ),
]
FractionOption = Annotated[
    float | None,
    typer.Option(
        "--validation-fraction",
        min=0.01,
        max=0.9,
        help="Share of each class to hold back from a set of your own that has no validation folder.",
    ),
]
FractionSeedOption = Annotated[
    int, typer.Option("--validation-seed", min=0, help="Of the choice of faces held back.")
]
PrivateTestOption = Annotated[
    bool, typer.Option("--private-test", help="Score PrivateTest of the csv file: once for a released model.")
]


def scored_split(*, private_test: bool) -> str:
    """Name the split that is scored."""
    return "PrivateTest" if private_test else "PublicTest"
