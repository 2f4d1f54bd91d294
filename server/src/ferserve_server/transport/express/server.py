"""The listener of the express door."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

from ferserve_server.transport.addresses import ListenError, bound_sockets, claimed, is_unix, path_of
from ferserve_server.transport.express.bounds import HANDSHAKE_S
from ferserve_server.transport.express.connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from ferserve_server.transport.express.door import Door
    from ferserve_server.transport.limits import RequestLimits
    from ferserve_server.transport.server import TlsFiles

FLAG: Final = "--listen"

_GOODBYE_S: Final = 1.0
"""In which peers may go by themselves, as with the gRPC server."""

_LOOK_S: Final = 1.0
"""How often the connections are looked through for what takes too long."""

_BACKLOG: Final = 1024
"""Connections that may wait to be taken."""


@contextlib.asynccontextmanager
async def listening_express(
    address: str,
    door: Door,
    limits: RequestLimits,
    tls: TlsFiles | None,
    now: Callable[[], float],
    *,
    share_port: bool = False,
    max_connection_age_s: float = 0.0,
) -> AsyncIterator[int | None]:
    """Listens until the block is left; then peers are asked to go, and cut after a second.

    Args:
        address: HOST:PORT or unix:PATH; port 0 picks a free one.
        door: Begins calls.
        limits: Bounds of a request.
        tls: For TLS, or None.
        now: The time, in seconds.
        share_port: Whether other processes listen on the same port.
        max_connection_age_s: After how many seconds clients are asked to connect anew; 0: never.

    Yields:
        The port; None for a socket's file.

    Raises:
        ListenError: The address cannot be listened on, or the TLS files cannot be used.
    """
    connections: set[Connection] = set()

    def make() -> Connection:
        return Connection(door.begin, limits, connections, now, max_connection_age_s)

    with claimed(address, FLAG):
        servers = await _listen(address, make, _context(tls), share_port=share_port)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work) for work in (_keep_looking(connections), door.drain_streams())]
        try:
            yield None if is_unix(address) else servers[0].sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            for server in servers:
                server.close()
            await _say_goodbye(connections)


def _context(tls: TlsFiles | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = tls.context()
    context.set_alpn_protocols(["h2"])
    return context


async def _listen(
    address: str, make: Callable[[], Connection], context: ssl.SSLContext | None, *, share_port: bool
) -> list[asyncio.Server]:
    loop = asyncio.get_running_loop()
    handshake_s = HANDSHAKE_S if context else None
    servers: list[asyncio.Server] = []
    try:
        if is_unix(address):
            path = os.fspath(path_of(address))
            server = await loop.create_unix_server(
                make, path, ssl=context, ssl_handshake_timeout=handshake_s, backlog=_BACKLOG
            )
            return [server]
        for each in bound_sockets(address, share=share_port):
            server = await loop.create_server(
                make, sock=each, ssl=context, ssl_handshake_timeout=handshake_s, backlog=_BACKLOG
            )
            servers.append(server)
    except (OSError, ValueError) as error:
        for server in servers:
            server.close()
        raise ListenError(f"cannot listen on {address!r}: {error}; choose another with {FLAG}") from error
    return servers


async def _keep_looking(connections: set[Connection]) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        for connection in list(connections):
            connection.check_times()


async def _say_goodbye(connections: set[Connection]) -> None:
    for connection in connections:
        connection.leave()
    deadline = asyncio.get_running_loop().time() + _GOODBYE_S
    while connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - they tell nobody else
        await asyncio.sleep(0.01)
    for connection in list(connections):
        connection.abort()
    # A turn in which the sockets are closed and the calls end.
    await asyncio.sleep(0)
