"""`ferserve-train results`."""

from pathlib import Path
from typing import Annotated

import typer

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import TrainingError
from ferserve_training.report.results import read_results, results_table, with_table


def results(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `evaluate --result` files.")],
    document: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put the table between the marks of this document.")
    ] = None,
) -> None:
    """Print the table of results in Markdown, or put it into a document."""
    table = results_table(read_results(folder))
    if document is None:
        print(table, end="")
        return
    try:
        write_atomically(document, with_table(document.read_text("utf-8"), table).encode())
    except OSError as error:
        raise TrainingError(f"{document}: cannot be changed ({error.strerror})") from error
