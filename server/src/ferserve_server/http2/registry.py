"""Registers the connections of a process: accepts sockets, counts them, enforces time limits, and closes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.limits import (
    HANDSHAKE_S,
    LINGER_S,
    OVERSIZE_WINDOW_BYTES,
    RECEIVE_BUFFER_BYTES,
    SHUTDOWN_S,
)
from ferserve_server.http2.protocol import ServerProtocol

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Callable

    from ferserve_server.http2.connection import StreamFactory

log = structlog.get_logger(__name__)

_CHECK_S: Final = 1.0
"""Interval of the checks for time limits."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Holds the bounds that the settings choose.

    Attributes:
        max_connections: In all.
        max_connections_per_peer: Of one address; 0: no bound of its own.
        max_age_s: Age in seconds at which a client is asked to connect again; 0: never.
        max_message_bytes: Longest message.
        max_header_list_bytes: Advertised bound on a header list.
    """

    max_connections: int
    max_connections_per_peer: int
    max_age_s: float
    max_message_bytes: int
    max_header_list_bytes: int


class ConnectionRegistry:
    """Accepts sockets and registers their connections. Event loop only.

    Args of the constructor:
        make_stream: Makes the stream of a request.
        limits: Bounds.
        context: Returns the context for a new connection with TLS; None: no TLS.
        now: Returns the time, in seconds.

    Attributes:
        on_end: Called when a connection has ended, or was never established.
    """

    def __init__(
        self,
        make_stream: StreamFactory,
        limits: ConnectionLimits,
        context: Callable[[], ssl.SSLContext] | None,
        now: Callable[[], float],
    ) -> None:
        self._make_stream = make_stream
        self._limits = limits
        self._context = context
        self._now = now
        oversize = max(OVERSIZE_WINDOW_BYTES, limits.max_message_bytes + 16)
        self._memory = ReceiveMemory(RECEIVE_BUFFER_BYTES, oversize)
        self._loop = asyncio.get_running_loop()
        self._peers: dict[ServerProtocol, str] = {}
        self._per_peer: Counter[str] = Counter()
        self._established: set[ServerProtocol] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left_at: float | None = None
        self._closed = False
        self._rejected_at = -60.0
        self.on_end: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """Returns the number of connections that are open or in their TLS handshake."""
        return len(self._peers)

    def accept(self, accepted: socket.socket) -> None:
        """Accepts a connected, non-blocking socket, and closes it in the end; never raises."""
        peer = _address(accepted)
        limits = self._limits
        per_peer = limits.max_connections_per_peer if peer else 0
        if self._closed or self.count >= limits.max_connections or 0 < per_peer <= self._per_peer[peer]:
            self._reject(accepted, peer)
            return
        protocol = ServerProtocol(
            self._make_stream, self._memory, limits.max_header_list_bytes, self, self._now, limits.max_age_s
        )
        self._peers[protocol] = peer
        self._per_peer[peer] += 1
        task = self._loop.create_task(self._establish(protocol, accepted))
        self._tasks.add(task)
        task.add_done_callback(partial(self._finish_establishing, protocol, accepted))

    @property
    def has_left(self) -> bool:
        """Returns whether no peer can open a further stream: each has disconnected, or knows that it may not."""
        return len(self._peers) == len(self._established) and all(each.has_left for each in self._established)

    def leave(self) -> None:
        """Asks all peers to leave, and those that still connect; open streams and late ones are answered."""
        if self._left_at is None:
            self._left_at = self._loop.time()
        for connection in list(self._established):
            connection.leave()

    def add(self, connection: ServerProtocol) -> None:
        """Adds an established connection."""
        self._established.add(connection)
        if self._left_at is not None:
            connection.leave()

    def discard(self, connection: ServerProtocol) -> None:
        """Removes a closed connection."""
        self._established.discard(connection)
        peer = self._peers.pop(connection, None)
        if peer is not None:
            self._per_peer[peer] -= 1
            if not self._per_peer[peer]:
                del self._per_peer[peer]
            self.on_end()

    def check_times(self) -> None:
        """Enforces the time limits; to be called once a second."""
        for connection in list(self._established):
            try:
                connection.check_times()
            except Exception:
                log.exception("the time limits of a connection cannot be checked: it is closed")
                connection.abort()

    async def close(self) -> None:
        """Asks all peers to leave, and closes the connections of those that have not left in time.

        They have `SHUTDOWN_S` from the first call of `leave` on.
        """
        self.leave()
        deadline = (self._loop.time() if self._left_at is None else self._left_at) + SHUTDOWN_S
        while self.count and self._loop.time() < deadline:  # noqa: ASYNC110 - the transports tell nobody
            await asyncio.sleep(0.01)
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in list(self._established):
            connection.abort()
        deadline = self._loop.time() + SHUTDOWN_S
        # A few iterations, more with TLS than without.
        while self.count and self._loop.time() < deadline:  # noqa: ASYNC110 - the transports tell nobody
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # for the sockets to close and the calls to end

    def _reject(self, accepted: socket.socket, peer: str) -> None:
        accepted.close()
        if not self._closed and self._now() - self._rejected_at > 1:  # a flood must not fill the log
            self._rejected_at = self._now()
            log.warning("connection refused: too many are open", count=self.count, peer=peer)
        self.on_end()

    async def _establish(self, protocol: ServerProtocol, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client left, or speaks no TLS
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._context() if self._context else None,
                ssl_handshake_timeout=HANDSHAKE_S if self._context else None,
                ssl_shutdown_timeout=LINGER_S if self._context else None,
            )

    def _finish_establishing(
        self, protocol: ServerProtocol, accepted: socket.socket, task: asyncio.Task[None]
    ) -> None:
        """Closes what was not established; a callback, because a task that is cancelled at once runs nothing."""
        self._tasks.discard(task)
        if protocol not in self._established and protocol in self._peers:
            self.discard(protocol)
            accepted.close()


@contextlib.asynccontextmanager
async def serving(registry: ConnectionRegistry) -> AsyncIterator[None]:
    """Enforces time limits until the block is left; then closes all connections."""

    async def check() -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            registry.check_times()

    task = asyncio.get_running_loop().create_task(check())
    try:
        yield
    finally:
        task.cancel()
        await registry.close()


def _address(connected: socket.socket) -> str:
    """Returns the peer's address; "" for Unix-domain sockets and peers that have left."""
    try:
        name = connected.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""
