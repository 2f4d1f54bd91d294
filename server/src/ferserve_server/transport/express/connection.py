"""The socket of a connection: the thin shell around `Session`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ferserve_server.services.callers import caller_of_transport
from ferserve_server.transport.express.bounds import DEAD_S, IDLE_S, UNREAD_S
from ferserve_server.transport.express.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.caller import CallerId
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Call, Stream


class OpenOnes(Protocol):
    """Where connections are while they are open."""

    def add(self, connection: Connection, /) -> None:
        """One has begun."""

    def discard(self, connection: Connection, /) -> None:
        """One has ended."""


class Connection(asyncio.Protocol):
    """Reads and writes. Whatever is answered in one turn of the event loop goes out in one write. Event loop only.

    Args of the constructor:
        begin: Begins a call.
        limits: Bounds of a request.
        connections: Where it is while it is open.
        now: The time, in seconds.
        max_age_s: After how many seconds the peer is asked to connect anew; 0: never.
    """

    def __init__(
        self,
        begin: Callable[[Stream, RequestHead, CallerId], Call | None],
        limits: RequestLimits,
        connections: OpenOnes,
        now: Callable[[], float],
        max_age_s: float,
    ) -> None:
        self._begin = begin
        self._limits = limits
        self._connections = connections
        self._now = now
        self._max_age_s = max_age_s
        self._loop = asyncio.get_running_loop()
        self._receiving = False
        self._asked_at: float | None = None
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what servers give
        """Begins the connection."""
        self._transport = transport
        self._opened_at = self._now()
        begin, caller = self._begin, caller_of_transport(transport)
        self._session = Session(
            lambda stream, head: begin(stream, head, caller), self._limits, self._now, self._wake
        )
        self._connections.add(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            transport.abort()  # gRPC asks for ALPN; who has agreed on nothing would speak something else

    def data_received(self, data: bytes) -> None:
        """Takes bytes in."""
        self._asked_at = None
        self._receiving = True
        self._session.receive(data)
        self._receiving = False
        # What was answered at once goes out at once, also in one piece.
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why makes no difference
        """Cancels what is open."""
        self._connections.discard(self)
        self._session.lost()

    def pause_writing(self) -> None:
        """Takes no more in from a peer that does not read its answers."""
        if not self._transport.is_closing():
            self._unread_since = self._now()
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Goes on."""
        if self._unread_since is not None:
            self._unread_since = None
            self._transport.resume_reading()

    def leave(self) -> None:
        """Asks the peer to go; the connection closes when its calls are answered."""
        self._session.leave()

    def abort(self) -> None:
        """Closes at once; what is not sent is lost."""
        self._flush()
        self._transport.close()

    def check_times(self) -> None:
        """Ends what takes too long, and asks a silent peer whether it is there; to be called once a second."""
        now, session = self._now(), self._session
        if self._unread_since is not None:
            if now - self._unread_since > UNREAD_S:
                self._transport.abort()
            return
        if self._max_age_s and now - self._opened_at > self._max_age_s:
            session.leave()
        session.check_times()
        if now - session.heard_at > IDLE_S and self._asked_at is None:
            self._asked_at = now
            session.ping()
        elif self._asked_at is not None and now - self._asked_at > DEAD_S:
            self._transport.abort()

    def _wake(self) -> None:
        if not self._receiving:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        data = self._session.output.take()
        if not self._transport.is_closing():
            if data:
                self._transport.write(data)
            if self._session.over:
                self._transport.close()
