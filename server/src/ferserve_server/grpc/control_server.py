"""Serves control calls on an address of their own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ferserve_server.grpc.grpcio_server import listening_grpc, new_server
from ferserve_server.runtime.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ferserve_server.interop.messages import GenericHandler
    from ferserve_server.runtime.tls import ServerTls
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.services.models import ModelServicer


@contextlib.asynccontextmanager
async def listening_control(
    address: str,
    models: ModelServicer,
    limits: RequestLimits,
    compat: Sequence[GenericHandler],
    tls: ServerTls | None,
) -> AsyncIterator[Endpoint]:
    """Serves control calls until the block is left, which gives running ones a second.

    Args:
        address: HOST:PORT or unix:PATH; "off" for nothing.
        models: ModelService that accepts control calls.
        limits: Bounds of a request.
        compat: Services of other servers' interfaces that accept control calls.
        tls: For TLS, or None.

    Yields:
        The address.

    Raises:
        ListenError: The address cannot be listened on.
    """
    if address == "off":
        yield Endpoint(None)
        return
    server = new_server(limits)
    server.add_generic_rpc_handlers((models.handlers(), *compat))
    async with listening_grpc(server, address, tls, "--control-listen") as endpoint:
        yield endpoint
