"""Assembles the commands."""

import os
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from ferserve_client.cli.analyze import analyze
from ferserve_client.cli.bench import bench
from ferserve_client.cli.classify import classify
from ferserve_client.cli.console import prepare_streams
from ferserve_client.cli.folder import folder
from ferserve_client.cli.health import health
from ferserve_client.cli.models import models
from ferserve_client.cli.quickstart import quickstart
from ferserve_client.cli.watch import watch

app = typer.Typer(
    name="ferserve",
    help="Classify the expressions of faces: in crops, in pictures and in video.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(models, name="models")
for command in (quickstart, analyze, folder, watch, classify, health, bench):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(version("ferserve-client"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Classify the expressions of faces: in crops, in pictures and in video."""


def main() -> NoReturn:
    """Run the command line. Exit codes: 0 all answered, 1 not all, 2 misused, 128 + signal when stopped."""
    code = 0
    prepare_streams()
    try:
        app(prog_name="ferserve")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process. Everything of the command is closed by now.

    gRPC's threads outlive the command, and one that is killed in the middle of a call can hold the lock for
    which the channel's own `__del__` waits when the interpreter goes down: the command would hang after its
    work is done. Threads that read a source may hang in it, too.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader has left; the stream is closed
            stream.flush()
    os._exit(code)
