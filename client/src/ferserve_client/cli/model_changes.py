"""Runs `ferserve models load` and the others that change the versions that a server serves."""

from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, connected
from ferserve_client.cli.console import complain, print_json
from ferserve_client.model_control import ModelControl, read_token
from ferserve_client.outputs.records import model_record
from ferserve_client.servables import ModelInfo

TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        envvar="FERSERVE_CONTROL_TOKEN_FILE", help="File with the token that the server wants of control calls."
    ),
]
VersionArgument = Annotated[int, typer.Argument(min=1, metavar="VERSION", help="The version.")]
CanaryArgument = Annotated[
    int | None,
    typer.Argument(min=1, metavar="[VERSION]", help="The version you take it for. Not given: whichever it is."),
]


@connected
def load(
    connection: Connection,
    version: VersionArgument,
    *,
    model: ModelOption = "",
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Load a version and keep it ready whatever the policy says."""
    with _control(connection, token_file) as control:
        return _print_model(control.load(version, model=model), json=json)


@connected
def unload(
    connection: Connection,
    version: VersionArgument,
    *,
    model: ModelOption = "",
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Take a version out of service until it is loaded again."""
    with _control(connection, token_file) as control:
        return _print_model(control.unload(version, model=model), json=json)


@connected
def set_alias(
    connection: Connection,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Name of the alias, such as stable.")],
    version: Annotated[int, typer.Argument(min=0, metavar="VERSION", help="The version. 0: remove the alias.")],
    *,
    model: ModelOption = "",
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Make an alias name a version, or remove it."""
    with _control(connection, token_file) as control:
        changed = (
            control.set_alias(alias, version, model=model) if version else control.delete_alias(alias, model=model)
        )
        return _print_model(changed, json=json)


@connected
def promote(
    connection: Connection,
    version: CanaryArgument = None,
    *,
    model: ModelOption = "",
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Make the canary the stable version."""
    with _control(connection, token_file) as control:
        return _print_model(control.promote(version, model=model), json=json)


@connected
def rollback(
    connection: Connection,
    version: CanaryArgument = None,
    *,
    model: ModelOption = "",
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Take the canary back; without one, what answers, and go back to the version before."""
    with _control(connection, token_file) as control:
        return _print_model(control.roll_back(version, model=model), json=json)


def _control(connection: Connection, token_file: Path | None) -> ModelControl:
    token = None if token_file is None else read_token(token_file)
    if token and connection.tls is None and not connection.server.startswith(("localhost", "127.", "unix:")):
        complain("the token goes over the network in the clear; use --tls")
    return ModelControl(connection.server, token=token, tls=connection.tls, timeout_s=connection.timeout_s)


def _print_model(model: ModelInfo, *, json: bool) -> int:
    if json:
        print_json(model_record(model))
        return 0
    serving = "nothing" if model.serving_version is None else f"version {model.serving_version}"
    aliases = ", ".join(f"{name}={version}" for name, version in model.aliases.items()) or "none"
    print(f"{model.name}: {serving} answers; aliases: {aliases}")
    return 0
