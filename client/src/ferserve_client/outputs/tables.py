"""Writes rows to CSV and Parquet files that stay whole whatever ends the command."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from ferserve_client.video.extras import load_parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ROWS_PER_GROUP: Final = 10_000
"""Rows that a Parquet file holds back before it writes a group: some megabytes of memory."""


class TableWriter(Protocol):
    """Writes rows to a file."""

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write the rows of one picture or frame, together.

        Raises:
            OSError: The file cannot be written.
        """

    def close(self) -> None:
        """Complete the file.

        Raises:
            OSError: The file cannot be written.
        """


def open_table(path: Path, columns: Mapping[str, type]) -> TableWriter:
    """Open a table by the ending of its name: `.parquet`, or else CSV. A file that is there is overwritten.

    Raises:
        MissingExtraError: The table is Parquet, and PyArrow is not installed.
        OSError: The file cannot be written.
    """
    return ParquetTable(path, columns) if path.suffix.lower() == ".parquet" else CsvTable(path, columns)


class CsvTable:
    """Writes a CSV file (UTF-8, header, RFC 4180). Rows of one picture or frame reach the file in one piece.

    Args:
        path: The file.
        columns: Names of the columns.
        append: Whether rows are added to a file that has its header.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, columns: Mapping[str, type], *, append: bool = False) -> None:
        mode = "a" if append else "w"
        self._file = path.open(mode, newline="", encoding="utf-8", errors="backslashreplace")
        self._writer = csv.DictWriter(self._file, list(columns))
        if not append:
            self._writer.writeheader()
            self._file.flush()

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, and flush them, so that a killed command leaves whole lines."""
        self._writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetTable:
    """Writes a Parquet file beside its place, and moves it there when it is complete.

    Args:
        path: The file.
        columns: Names and types of the columns.

    Raises:
        MissingExtraError: PyArrow is not installed.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, columns: Mapping[str, type]) -> None:
        self._arrow, parquet = load_parquet()
        kinds = {str: "string", int: "int64", float: "float64", bool: "bool"}
        fields = [(name, self._arrow.type_for_alias(kinds[kind])) for name, kind in columns.items()]
        self._schema = self._arrow.schema(fields)
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._writer = parquet.ParquetWriter(os.fspath(self._partial), self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, in groups."""
        self._rows += rows
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Complete the file and move it to its place."""
        self._flush()
        self._writer.close()
        self._partial.replace(self._path)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    # Plain decimals: spreadsheets take 1e-05 for text.
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0" if isinstance(value, float) else value
