"""Runs `ferserve models`: lists the models of a server, and changes them."""

import inspect
from typing import Any

import typer

from ferserve_client.cli.connection import Connection, JsonOption, connected
from ferserve_client.cli.console import print_json, print_table
from ferserve_client.cli.model_changes import load, promote, rollback, set_alias, unload
from ferserve_client.outputs.records import model_record

_SHOWN = {
    "accuracy": "public_test_accuracy",
    "twin-free": "public_test_twin_free_accuracy",
    "ECE": "public_test_ece",
}
"""Columns that 80 characters have room for, and the PublicTest metrics in them; `--json` has all."""


@connected
def list_models(connection: Connection, *, json: JsonOption = False) -> int:
    """List the server's models, their versions and what was measured of them."""
    with connection.open() as client:
        found = client.models()
    if json:
        for model in found:
            print_json(model_record(model))
        return 0
    rows = []
    for model in found:
        name = f"{model.name} (default)" if model.is_default else model.name
        for version in model.versions:
            state = str(version.state) if version.error is None else f"{version.state}: {version.error.message}"
            if model.canary is not None and model.canary.version == version.version:
                state += f", canary: {model.canary.verdict}, {model.canary.text}"
            size = f"{version.input_height} x {version.input_width}" if version.input_height else ""
            parameters = "" if version.parameter_count is None else f"{version.parameter_count:,}"
            measured = [version.metrics.get(metric) for metric in _SHOWN.values()]
            figures = ["" if value is None else f"{value:.3f}" for value in measured]
            number = " ".join([str(version.version), *version.aliases])
            rows.append([name, number, state, size, parameters, *figures])
    print_table(("model", "version", "state", "input", "parameters", *_SHOWN), rows)
    return 0


def _without_command(context: typer.Context, **options: Any) -> None:  # noqa: ANN401 - typer's values
    """List the server's models, or change the versions that it serves."""
    if context.invoked_subcommand is None:
        list_models(**options)


# The same options as the listing, which `ferserve models` alone is.
_listing = inspect.signature(list_models).parameters
_context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
_without_command.__dict__["__signature__"] = inspect.Signature([_context, *_listing.values()])
_without_command.__annotations__ = {name: each.annotation for name, each in _listing.items()} | {
    "context": typer.Context
}

models = typer.Typer(invoke_without_command=True)
models.callback()(_without_command)
models.command("list")(list_models)
for command in (load, unload, set_alias, promote, rollback):
    models.command()(command)
