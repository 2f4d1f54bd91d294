"""Keeps the rows of a folder's pictures in a file beside the output, from which a later run goes on.

The work file is a CSV of the output's name with `.partial` behind it. Pictures are written in the order of their
names, all rows of one together; a run that ends early leaves whole pictures and at most one that is cut off. A
later run drops the last picture of the file, does it again, and goes on, so that the end is that of one run.
"""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

from ferserve_client.outputs.rows import PICTURE_COLUMNS
from ferserve_client.outputs.tables import CsvTable, open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


class OtherOptionsError(ValueError):
    """Reports a work file that was written with other options."""


class Journal:
    """Holds the pictures that are done, and takes in further ones. Not thread-safe.

    Args:
        output: The table to make, CSV or Parquet by its ending.
        options: What the rows depend on, such as the model. A work file of other options is not gone on with.
        restart: Whether a work file that is there is thrown away.

    Raises:
        OSError: The work file cannot be read or written.
        OtherOptionsError: There is a work file of other options.
    """

    def __init__(self, output: Path, options: Mapping[str, object], *, restart: bool) -> None:
        self._output = output
        self.work_file = output.with_name(output.name + ".partial")
        self._options_file = output.with_name(output.name + ".partial.json")
        self.done: set[str] = set()
        """Names of the pictures whose rows are in the work file."""
        self.failed: dict[str, str] = {}
        """Pictures that are done and could not be analysed, with the reason."""
        text = json.dumps(dict(options), sort_keys=True)
        resumes = not restart and self.work_file.exists()
        if resumes:
            known = self._options_file.read_text("utf-8") if self._options_file.exists() else ""
            if known != text:
                raise OtherOptionsError(
                    f"{self.work_file} is of a run with other options ({known or 'not known'})"
                )
            resumes = self._drop_last_picture()
        if not resumes:
            self._options_file.write_text(text, "utf-8")
        self._table = CsvTable(self.work_file, PICTURE_COLUMNS, append=resumes)

    def write(self, source: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write all rows of one picture.

        Raises:
            OSError: The disk is full.
        """
        self._table.write(rows)
        self.done.add(source)

    def close(self) -> None:
        """Close the work file; a later run goes on with it."""
        self._table.close()

    def complete(self) -> None:
        """Make the output of the work file, and remove that.

        Raises:
            MissingExtraError: The output is Parquet, and PyArrow is not installed.
            OSError: The output cannot be written.
        """
        self._table.close()
        if self._output.suffix.lower() == ".parquet":
            # Under another name until it is complete: the work file has the one that Parquet tables use.
            whole = self._output.with_name("." + self._output.name)
            table = open_table(whole, PICTURE_COLUMNS)
            with self.work_file.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    table.write([_typed(row)])
            table.close()
            whole.replace(self._output)
            self.work_file.unlink()
        else:
            self.work_file.replace(self._output)
        self._options_file.unlink()

    def _drop_last_picture(self) -> bool:
        """Cut the work file before its last picture; False if not even its header is whole."""
        header_end, begin, end = 0, 0, 0
        rows: list[list[str]] = []
        for row_end, row in _whole_rows(self.work_file):
            if not header_end:
                header_end = begin = row_end
            elif not rows or row[0] == rows[0][0]:
                rows.append(row)
            else:
                self._note(rows)
                begin, rows = end, [row]
            end = row_end
        if not header_end:
            return False
        os.truncate(self.work_file, begin)
        return True

    def _note(self, rows: list[list[str]]) -> None:
        source, columns = rows[0][0], list(PICTURE_COLUMNS)
        self.done.add(source)
        outcomes = [row[columns.index("outcome")] for row in rows]
        failed = next((each for each in outcomes if each != "analyzed"), None)
        if failed is not None:
            self.failed[source] = rows[0][columns.index("message")] or failed


def _whole_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield every whole row with the offset behind it, in bytes. A row that is cut off ends them."""
    with path.open("rb") as file:
        record, end = b"", 0
        for line in file:
            record += line
            # A quoted cell may hold line breaks: a record is whole with an even number of quotes.
            if not line.endswith(b"\n") or record.count(b'"') % 2:
                continue
            end += len(record)
            row = next(csv.reader([record.decode("utf-8")]))
            if len(row) != len(PICTURE_COLUMNS):
                return
            yield end, row
            record = b""


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    """Read the cells of a row as the types of their columns; an empty cell is None."""
    read: dict[type, Callable[[str], Any]] = {bool: lambda text: text == "true", int: int, float: float, str: str}
    return {name: read[kind](row[name]) if row[name] else None for name, kind in PICTURE_COLUMNS.items()}
