"""Writes watched frames as JSON lines and as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferserve_client.outputs.records import frame_record
from ferserve_client.outputs.rows import FRAME_COLUMNS, frame_rows
from ferserve_client.outputs.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ferserve_client.watch.frames import SourceReport, WatchedFrame


class JsonLines:
    """Prints one JSON object per frame.

    Args:
        print_record: Prints one record on stdout, at once.
    """

    name = "stdout"

    def __init__(self, print_record: Callable[[dict[str, Any]], None]) -> None:
        self._print = print_record

    def show(self, watched: WatchedFrame) -> None:
        """Print the frame."""
        self._print(frame_record(watched.source, watched.lag_s, watched.answer))

    def end_source(self, report: SourceReport) -> None:
        """Do nothing: every line is complete."""

    def close(self) -> None:
        """Do nothing: every line is complete."""


class FrameTable:
    """Writes a row per face, and one for a frame without any, to CSV or Parquet.

    Args:
        path: The file; its ending tells the format.

    Raises:
        MissingExtraError: The format needs a library that is not installed.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._table = open_table(path, FRAME_COLUMNS)

    def show(self, watched: WatchedFrame) -> None:
        """Write the frame's rows."""
        self._table.write(frame_rows(watched.source, watched.answer))

    def end_source(self, report: SourceReport) -> None:
        """Do nothing: rows carry their source."""

    def close(self) -> None:
        """Complete the file."""
        self._table.close()
