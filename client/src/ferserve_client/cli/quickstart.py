"""Runs `ferserve quickstart`: a server on this machine, and its page in the browser."""

import os
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from ferserve_client.channel import DEFAULT_TARGET
from ferserve_client.cli.console import complain
from ferserve_client.cli.local_server import LocalServer, ServerNotInstalledError, free_port
from ferserve_client.cli.signals import StopRequest, stop_signals
from ferserve_client.client import EmotionClient
from ferserve_client.errors import FerserveError
from ferserve_client.servables import HealthStatus
from ferserve_client.video.window import has_display

POLL_S = 0.1
"""Time between two looks at the server, in seconds."""

GRPC_PORT = int(DEFAULT_TARGET.rpartition(":")[2])


def quickstart(
    server_flags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SERVER_FLAG", help="Flags of ferserve-server, after two dashes: -- --model-repo FOLDER"
        ),
    ] = None,
    *,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page; a free one where it is taken.")
    ] = 8080,
    start_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds that the server may take until it answers.")
    ] = 180.0,
) -> None:
    """Start a server on this machine, open its page, and stop it on Ctrl-C.

    It listens on 127.0.0.1 only. Exit code 1: it could not be started, or it ended by itself.
    """
    page_port = free_port(port)
    if page_port != port:
        complain(f"port {port} is taken, so the page gets another one")
    flags = [
        *("--listen", f"127.0.0.1:{free_port(GRPC_PORT)}"),
        *("--http-listen", f"127.0.0.1:{page_port}"),
        *("--metrics-listen", "off"),
        *(server_flags or ()),
    ]
    try:
        with stop_signals() as request:
            code = _serve(flags, request, start_timeout, open_browser=browser)
    except ServerNotInstalledError as error:
        complain(str(error))
        code = 1
    except OSError as error:
        complain(f"the server cannot be started: {error}")
        code = 1
    raise typer.Exit(code)


def _serve(flags: list[str], request: StopRequest, start_timeout_s: float, *, open_browser: bool) -> int:
    """Run the server until a signal comes or it ends; return the exit code."""
    give_up_at_s = time.monotonic() + start_timeout_s

    def goes_on() -> bool:
        return request.signal_number is None and server.exit_code is None

    def starts() -> bool:
        return goes_on() and time.monotonic() < give_up_at_s

    print("Starting ferserve-server ...", flush=True)
    with LocalServer(flags, lambda text: complain(f"server: {text}")) as server:
        if _is_ready(server, starts):
            _announce(server, open_browser=open_browser)
            while goes_on():
                time.sleep(POLL_S)
        elif goes_on():
            complain(f"the server does not answer after {start_timeout_s:g} s. Its last lines:")
            for line in server.last_lines:
                complain(line)
        ended_by_itself = server.exit_code is not None
    if request.exit_code is not None:
        print("Stopped.")
        return request.exit_code
    if ended_by_itself:
        complain(f"the server ended with exit code {server.exit_code}. Its last lines:")
        for line in server.last_lines:
            complain(line)
    return 1


def _is_ready(server: LocalServer, starts: Callable[[], bool]) -> bool:
    """Wait until the server says that it serves. False: it should not be waited for any longer."""
    ports = None
    while ports is None:
        if not starts():
            return False
        ports = server.ports(POLL_S)
    with EmotionClient(f"127.0.0.1:{ports[0]}", timeout_s=1.0) as client:
        while starts():
            with suppress(FerserveError):
                if client.health() is HealthStatus.SERVING:
                    return True
            time.sleep(POLL_S)
    return False


def _announce(server: LocalServer, *, open_browser: bool) -> None:
    """Print the addresses, and open the page where that is asked for and possible."""
    grpc_port, http_port = server.ports(0.0) or (GRPC_PORT, None)
    if http_port is not None:
        page = f"http://127.0.0.1:{http_port}/"
        opened = open_browser and has_display(os.environ, sys.platform) and webbrowser.open(page)
        print(f"The page{' is open in your browser' if opened else ''}: {page}")
    option = "" if grpc_port == GRPC_PORT else f" --server 127.0.0.1:{grpc_port}"
    print(f"In another terminal: ferserve analyze PICTURE{option}")
    print("Ctrl-C stops the server.", flush=True)
