"""Puts the commands together."""

from importlib.metadata import version
from typing import Annotated

import typer

from ferserve_client.cli.analyze import analyze
from ferserve_client.cli.classify import classify
from ferserve_client.cli.health import health
from ferserve_client.cli.models import models
from ferserve_client.cli.watch import watch

app = typer.Typer(
    name="ferserve",
    help="Tell which expression faces show: in crops, in pictures and in video.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(models, name="models")
for command in (analyze, classify, watch, health):
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
    """Tell which expression faces show: in crops, in pictures and in video."""


def main() -> None:
    """Run the command line. Exit codes: 0 all answered, 1 not all, 2 misused, 130 interrupted."""
    app(prog_name="ferserve")
