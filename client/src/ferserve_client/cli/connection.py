"""The options that every command shares, and what becomes of its errors."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ferserve_client.channel import DEFAULT_TARGET, TlsOptions
from ferserve_client.cli.console import complain, explain
from ferserve_client.cli.signals import stopped_by_ctrl_c
from ferserve_client.client import EmotionClient
from ferserve_client.errors import FerserveError
from ferserve_client.options import DEFAULT_TIMEOUT_S
from ferserve_client.retry import RetryPolicy
from ferserve_client.video.opencv import MissingExtraError

_PANEL = "Server"

ModelOption = Annotated[str, typer.Option(help="Name of the model. Empty: the server's default.")]
ModelVersionOption = Annotated[
    str | None,
    typer.Option(help="Version of the model, or an alias such as stable. Not given: the one that is served."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is and how to speak to it."""

    server: str
    tls: TlsOptions | None
    timeout_s: float

    @contextmanager
    def open(self) -> Iterator[EmotionClient]:
        """A client that Ctrl-C closes, until the block is left.

        It waits for room in a full queue: somebody who types a command has the time.

        Raises:
            OSError: A certificate cannot be read.
            KeyboardInterrupt: There was a Ctrl-C.
        """
        retry = RetryPolicy(retry_when_full=True)
        with (
            EmotionClient(self.server, tls=self.tls, timeout_s=self.timeout_s, retry=retry) as client,
            stopped_by_ctrl_c(client),
        ):
            yield client


def _connection(
    *,
    server: Annotated[
        str,
        typer.Option(envvar="FERSERVE_SERVER", metavar="HOST:PORT", help="The server.", rich_help_panel=_PANEL),
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
    if not (tls or ca_file or cert_file or key_file or server_name):
        return Connection(server, None, timeout)
    try:
        return Connection(server, TlsOptions(ca_file, cert_file, key_file, server_name), timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


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
            complain(explain(error, connection.server, connection.timeout_s))
            exit_code = 1
        except BrokenPipeError:
            raise  # the reader of stdout has left, as head does; typer ends without a word
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
