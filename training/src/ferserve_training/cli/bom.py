"""Defines `ferserve-train bom`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ferserve_training.atomic import write_atomically
from ferserve_training.cli.options import VersionArgument
from ferserve_training.errors import TrainingError
from ferserve_training.export.bill_of_materials import bill_of_materials_of


def bom(
    version: VersionArgument,
    *,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; without, to standard output.")
    ] = None,
) -> None:
    """Describe an exported version as a CycloneDX bill of materials (ML-BOM), from its manifest."""
    text = json.dumps(bill_of_materials_of(version), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        write_atomically(output, text.encode())
    except OSError as error:
        raise TrainingError(f"{output}: cannot be written ({error.strerror})") from error
    typer.echo(f"wrote {output}")
