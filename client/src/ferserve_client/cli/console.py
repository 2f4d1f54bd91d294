"""How the command speaks: results on stdout, trouble on stderr in one line each."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from ferserve_client.errors import (
    DeadlineExceededError,
    FerserveError,
    ModelNotFoundError,
    ServerDrainingError,
    ServerUnavailableError,
)


def print_json(record: dict[str, Any]) -> None:
    """Print one object on one line, at once, for programs that read along."""
    print(json.dumps(record, ensure_ascii=False), flush=True)


def print_table(table: Table) -> None:
    """Print a table to stdout."""
    Console().print(table)


def complain(text: str) -> None:
    """Say in one line on stderr what is wrong."""
    print("ferserve: " + " ".join(text.split()), file=sys.stderr, flush=True)


def explain(error: FerserveError, server: str, timeout_s: float) -> str:
    """What is wrong and what to do about it, in one sentence or two."""
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
            return f"{message} (ferserve models lists what is there)"
        case DeadlineExceededError():
            return f"no answer within {timeout_s:g} s: {message}. Allow more with --timeout SECONDS"
    return message


def cause_of(message: str) -> str:
    """The cause at the end of gRPC's long account of why it found nobody."""
    if "handshake failed" in message.lower() or "verification check failed" in message.lower():
        return "the TLS handshake failed: see --tls, --ca-file and --server-name"
    return message.rpartition(": ")[2].strip(" ]") or "no cause given"
