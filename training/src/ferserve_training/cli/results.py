"""Defines `ferserve-train results`."""

from pathlib import Path
from typing import Annotated

import typer

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import TrainingError
from ferserve_training.report.results import read_results, results_table, with_table
from ferserve_training.report.robustness_table import BEGIN, END, FOLDER, read_records, robustness_table


def results(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `evaluate --result` files.")],
    document: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Put the table between the marks of this document.")
    ] = None,
) -> None:
    """Print the tables of results in Markdown, or put them into a document.

    The second table is of what `robustness --result` wrote in the folder's subfolder `robustness`.
    """
    table = results_table(read_results(folder))
    records = read_records(folder / FOLDER)
    if document is None:
        print(table, end="")
        if records:
            print(f"\n{robustness_table(records)}", end="")
        return
    try:
        text = with_table(document.read_text("utf-8"), table)
        if records:
            text = with_table(text, robustness_table(records), (BEGIN, END))
        write_atomically(document, text.encode())
    except OSError as error:
        raise TrainingError(f"{document}: cannot be changed ({error.strerror})") from error
