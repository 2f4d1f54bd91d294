"""Runs `ferserve health`: asks a server for its health."""

from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, connected
from ferserve_client.cli.console import complain
from ferserve_client.errors import NotFoundError
from ferserve_client.servables import HealthStatus


@connected
def health(
    connection: Connection,
    service: Annotated[str, typer.Argument(help="Name of the service. Empty: the whole server.")] = "",
) -> int:
    """Ask for the server's health; exit code 0 only if it serves."""
    with connection.open() as client:
        try:
            status = client.health(service)
        except NotFoundError:
            complain(f"the server has no service {service!r}")
            return 1
    print(status)
    return 0 if status is HealthStatus.SERVING else 1
