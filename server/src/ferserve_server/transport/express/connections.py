"""The connections of one process at the express door: taken over as sockets, looked through, and asked to go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from ferserve_server.transport.express.bounds import HANDSHAKE_S
from ferserve_server.transport.express.connection import Connection

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Callable

    from ferserve_server.grpc.grpcio_server import TlsFiles
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.door import Door

_GOODBYE_S: Final = 1.0
"""In which peers may go by themselves, as with the gRPC server."""

_LOOK_S: Final = 1.0
"""How often the connections are looked through for what takes too long."""


class Connections:
    """Takes connections over, whoever accepted them. Event loop only.

    Args of the constructor:
        make: Makes the protocol of a connection, which tells the `Connections` when it begins and when it ends.
        context: For TLS, or None.

    Attributes:
        on_end: Called when one has ended, or never came to be.
    """

    def __init__(self, make: Callable[[Connections], Connection], context: ssl.SSLContext | None) -> None:
        self._make = make
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._coming: set[Connection] = set()
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.on_end: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """Connections that are open, or shake hands."""
        return len(self._coming) + len(self._open)

    def adopt(self, accepted: socket.socket) -> None:
        """Takes over a connected socket that does not block, and closes it in the end; never raises."""
        if self._closed:
            accepted.close()
            return
        connection = self._make(self)
        self._coming.add(connection)
        task = self._loop.create_task(self._begin(connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def add(self, connection: Connection) -> None:
        """One has begun."""
        self._coming.discard(connection)
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        """One has ended."""
        self._open.discard(connection)
        self.on_end()

    def check_times(self) -> None:
        """Ends what takes too long; to be called once a second."""
        for connection in list(self._open):
            connection.check_times()

    async def close(self) -> None:
        """Asks all peers to go, and cuts those that have not gone in a second."""
        deadline = self._loop.time() + _GOODBYE_S
        while self.count and self._loop.time() < deadline:
            for connection in list(self._open):  # each time: some may just have shaken hands
                connection.leave()
            await asyncio.sleep(0.01)
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._open):
            connection.abort()
        # A turn in which the sockets are closed and the calls end.
        await asyncio.sleep(0)

    async def _begin(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S if self._context else None,
            )
        except OSError:  # gone already, or no TLS of ours: nobody to tell
            pass
        finally:
            if connection in self._coming:
                self._coming.discard(connection)
                accepted.close()
                self.on_end()


@contextlib.asynccontextmanager
async def open_connections(
    door: Door,
    limits: RequestLimits,
    tls: TlsFiles | None,
    now: Callable[[], float],
    *,
    max_connection_age_s: float = 0.0,
) -> AsyncIterator[Connections]:
    """Answers calls on the connections that it is given, until the block is left.

    Then peers are asked to go, and cut after a second.

    Args:
        door: Begins calls.
        limits: Bounds of a request.
        tls: For TLS, or None.
        now: The time, in seconds.
        max_connection_age_s: After how many seconds clients are asked to connect anew; 0: never.

    Raises:
        ListenError: The TLS files cannot be used.
    """

    def make(connections: Connections) -> Connection:
        return Connection(door.begin, limits, connections, now, max_connection_age_s)

    connections = Connections(make, _context(tls))
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in (_keep_looking(connections), door.drain_streams())]
    try:
        yield connections
    finally:
        for task in tasks:
            task.cancel()
        await connections.close()


def _context(tls: TlsFiles | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = tls.context()
    context.set_alpn_protocols(["h2"])
    return context


async def _keep_looking(connections: Connections) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        connections.check_times()
