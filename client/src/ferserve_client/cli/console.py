"""Prints results on stdout, and trouble on stderr in one line each."""

import difflib
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console
from rich.table import Column, Table

from ferserve_client.errors import (
    DeadlineExceededError,
    FerserveError,
    ModelNotFoundError,
    ServerDrainingError,
    ServerUnavailableError,
)
from ferserve_client.video.sources import printable


def prepare_streams() -> None:
    """Make stdout and stderr take every text: characters that they cannot show become escapes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(OSError, ValueError):
                reconfigure(errors="backslashreplace")


def print_json(record: dict[str, Any]) -> None:
    """Print one object on one line, at once, for programs that read along."""
    print(json_line(record, sys.stdout), flush=True)


def json_line(record: dict[str, Any], stream: TextIO) -> str:
    """Return a record as JSON that the stream can write: with escapes where its encoding lacks a character."""
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(record)
    return text


def print_table(columns: Sequence[str | Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: drawn to the width of a terminal, and as plain aligned text into a pipe or file.

    Args:
        columns: Headings. On a terminal long cells are folded, never cut.
        rows: Cells of each row, as many as columns.
    """
    listed = [list(row) for row in rows]
    if not sys.stdout.isatty():
        headings = [str(each.header) if isinstance(each, Column) else each for each in columns]
        for line in aligned([headings, *listed]):
            print(line)
        return
    table = Table(*(each if isinstance(each, Column) else Column(each, overflow="fold") for each in columns))
    for row in listed:
        table.add_row(*row)
    Console(markup=False).print(table)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns two spaces apart, without trailing space."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def complain(text: str) -> None:
    """Print one line on stderr that says what is wrong."""
    # A closed or full stderr is no reason to end the work.
    with suppress(OSError, ValueError):
        print("ferserve: " + " ".join(printable(text).split()), file=sys.stderr, flush=True)


def explain(error: FerserveError, server: str, timeout_s: float, model_names: Iterable[str] = ()) -> str:
    """Return what is wrong and what to do about it, in one sentence or two.

    Args:
        error: The error.
        server: Address of the server as it was typed.
        timeout_s: Deadline of the call, in seconds.
        model_names: Models that the server has, for a name that it has not.
    """
    message = error.message or error.reason or error.code.name
    match error:
        case ServerUnavailableError(reason=""):
            return (
                f"no server answers at {server} ({cause_of(error.message)}). Start one with ferserve-server, "
                "or name another with --server HOST:PORT"
            )
        case ServerDrainingError(last_sequence_id=int(last)):
            return f"{message} The last answered frame is {last}."
        case ModelNotFoundError():
            meant = did_you_mean(error.metadata.get("model", ""), model_names)
            return f"{message}{meant} (ferserve models lists what is there)"
        case DeadlineExceededError():
            return f"no answer within {timeout_s:g} s: {message}. Allow more with --timeout SECONDS"
    return message


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """Return a question for the nearest of the known words, or nothing if none is near."""
    near = difflib.get_close_matches(typed, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if typed and near and near[0] != typed else ""


def cause_of(message: str) -> str:
    """Return the cause at the end of gRPC's long account of a failed connection."""
    if "handshake failed" in message.lower() or "verification check failed" in message.lower():
        return "the TLS handshake failed: see --tls, --ca-file and --server-name"
    return message.rpartition(": ")[2].strip(" ]") or "no cause given"
