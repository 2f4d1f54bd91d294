"""Declares the options that every command shares, and turns its errors into one line each."""

import difflib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ferserve_client.channel import DEFAULT_TARGET, TlsOptions, targets_of
from ferserve_client.cli.console import complain, explain
from ferserve_client.cli.signals import stopped_by_signals
from ferserve_client.client import EmotionClient
from ferserve_client.errors import FerserveError, ModelNotFoundError
from ferserve_client.options import DEFAULT_TIMEOUT_S
from ferserve_client.retry import RetryPolicy
from ferserve_client.video.extras import MissingExtraError

_PANEL = "Server"

ModelOption = Annotated[str, typer.Option(help="Name of the model. Empty: the server's default.")]
ModelVersionOption = Annotated[
    str | None,
    typer.Option(help="Version of the model, or an alias such as stable. Not given: the one that is served."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """Holds the address of the server and the options of calls to it."""

    server: str
    tls: TlsOptions | None
    timeout_s: float

    def connect(self) -> EmotionClient:
        """Open a connection. It waits for room in a full queue: somebody who types a command has the time.

        Raises:
            OSError: A certificate cannot be read, or a name among several servers is not known.
        """
        retry = RetryPolicy(retry_when_full=True)
        return EmotionClient(self.server, tls=self.tls, timeout_s=self.timeout_s, retry=retry)

    @contextmanager
    def open(self) -> Iterator[EmotionClient]:
        """Open a connection that Ctrl-C closes, until the block is left.

        Raises:
            OSError: As `connect`.
            SystemExit: There was a signal to stop.
        """
        with self.connect() as client, stopped_by_signals(client):
            yield client

    def explain(self, error: FerserveError) -> str:
        """Return what is wrong and what to do about it."""
        names = self._model_names() if isinstance(error, ModelNotFoundError) else ()
        return explain(error, self.server, self.timeout_s, names)

    def _model_names(self) -> list[str]:
        try:
            with EmotionClient(self.server, tls=self.tls, timeout_s=min(2.0, self.timeout_s)) as client:
                return [model.name for model in client.models()]
        except (FerserveError, OSError):
            return []


def _connection(
    *,
    server: Annotated[
        str,
        typer.Option(
            envvar="FERSERVE_SERVER",
            metavar="HOST:PORT",
            help="The server; several with commas.",
            rich_help_panel=_PANEL,
        ),
    ] = DEFAULT_TARGET,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, help="Seconds that one request may take.", rich_help_panel=_PANEL),
    ] = DEFAULT_TIMEOUT_S,
    tls: Annotated[
        bool, typer.Option("--tls", help="Speak TLS. Implied by the options below.", rich_help_panel=_PANEL)
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Authorities of the server's certificate (PEM).", rich_help_panel=_PANEL),
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(help="This client's certificate (PEM).", rich_help_panel=_PANEL)
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key (PEM).", rich_help_panel=_PANEL)] = None,
    server_name: Annotated[
        str | None, typer.Option(help="Name to expect in the certificate.", rich_help_panel=_PANEL)
    ] = None,
) -> Connection:
    warn_of_misspelt_variables(os.environ)
    if math.isnan(timeout):
        raise typer.BadParameter("--timeout must be a number of seconds, or inf")
    try:
        targets_of(server)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not (tls or ca_file or cert_file or key_file or server_name):
        return Connection(server, None, timeout)
    try:
        return Connection(server, TlsOptions(ca_file, cert_file, key_file, server_name), timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


VARIABLES = ("FERSERVE_SERVER", "FERSERVE_CONTROL_TOKEN_FILE")
"""Environment variables of the command. Those of the server begin alike."""


def warn_of_misspelt_variables(environment: Mapping[str, str]) -> None:
    """Name variables that are nearly, and not quite, one of the command's."""
    for name in environment:
        # 0.9: FERSERVE_SEVER and FERSERVE_SERVRE, and none of the server's own variables.
        near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.9)
        if near and name not in VARIABLES:
            complain(f"the variable {name} is not known. Did you mean {near[0]}?")


def connected(command: Callable[..., int]) -> Callable[..., None]:
    """Make a command of a function that takes a `Connection` first and returns its exit code.

    The command gets the connection's options beside its own. Errors of the server, of files and of
    missing extras end it with one line on stderr and exit code 1.
    """
    shared = inspect.signature(_connection).parameters
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def run(**options: Any) -> None:  # noqa: ANN401 - typer's values, as the signature below types them
        connection = _connection(**{name: options.pop(name) for name in shared})
        try:
            exit_code = command(connection, **options)
        except FerserveError as error:
            complain(connection.explain(error))
            exit_code = 1
        except BrokenPipeError:
            raise  # the reader of stdout has left, as head does; typer ends silently
        except OSError as error:
            complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            exit_code = 1
        except MissingExtraError as error:
            complain(str(error))
            exit_code = 1
        raise typer.Exit(exit_code)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *shared.values()]]
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
