"""Drives a connection's socket: reads fair portions, writes once per event-loop iteration, closes without loss."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ferserve_server.http2.connection import H2Connection
from ferserve_server.http2.limits import (
    HANDSHAKE_S,
    IDLE_S,
    ITERATION_S,
    LARGE_FRAME_BYTES,
    LINGER_BYTES,
    LINGER_S,
    MAX_SLICE_BYTES,
    PING_S,
    SLICE_BYTES,
    UNSENT_S,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.http2.connection import StreamFactory
    from ferserve_server.http2.flow_control import ReceiveMemory


class Registry(Protocol):
    """Registers the open connections."""

    def add(self, connection: ServerProtocol, /) -> None:
        """Adds an established connection."""

    def discard(self, connection: ServerProtocol, /) -> None:
        """Removes a closed connection."""


class ServerProtocol(asyncio.Protocol):
    """Drives an `H2Connection`. Event loop only.

    Args of the constructor:
        make_stream: Makes the stream of a request.
        memory: Bounds what all connections hold.
        max_header_list_bytes: Advertised bound on a header list.
        registry: Knows the open connections.
        now: Returns the time, in seconds.
        max_age_s: Age in seconds at which the peer is asked to connect again; 0: never.
    """

    def __init__(
        self,
        make_stream: StreamFactory,
        memory: ReceiveMemory,
        max_header_list_bytes: int,
        registry: Registry,
        now: Callable[[], float],
        max_age_s: float,
    ) -> None:
        self._make_connection = partial(H2Connection, make_stream, memory, max_header_list_bytes, now, self._wake)
        self._registry = registry
        self._now = now
        self._max_age_s = max_age_s
        self._loop = asyncio.get_running_loop()
        self._input = memoryview(b"")
        self._processing = True
        self._slice_bytes = SLICE_BYTES
        self._flush_scheduled = False
        self._continuation: asyncio.Handle | None = None
        self._reading = True
        self._pinged_at: float | None = None
        self._unread_since: float | None = None
        self._discarded: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what servers give
        """Starts the connection."""
        self._transport = transport
        self._opened_at = self._now()
        self._connection = self._make_connection()
        self._connection.transport = transport
        self._processing = False
        self._registry.add(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            transport.abort()  # gRPC requires ALPN; a client that agreed on nothing speaks something else
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Handles received bytes."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self._transport.abort()
        elif self._input:  # one more read before reading was paused
            self._input = memoryview(bytes(self._input) + data)
        elif len(data) > self._slice_bytes or self._continuation is not None or self._connection.slow_until:
            self._input = memoryview(data)
            if self._continuation is None:
                self._process()
        else:  # the usual portion is parsed as a whole
            connection = self._connection
            self._processing = True
            connection.receive(data)
            done = connection.handle_events(connection.bytes_at + ITERATION_S)
            self._processing = False
            if connection.wants_write or connection.over:
                self._flush()
            if not done:
                self._continue()

    def eof_received(self) -> bool:
        """Lets the transport close: no client of gRPC closes one direction alone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason makes no difference
        """Cancels the open streams."""
        self._registry.discard(self)
        if self._continuation is not None:
            self._continuation.cancel()
        self._input = memoryview(b"")
        self._connection.lost()

    def pause_writing(self) -> None:
        """Pauses sending and receiving until the peer reads."""
        self._unread_since = self._now()
        self._connection.paused = True
        self._update_reading()

    def resume_writing(self) -> None:
        """Resumes sending and receiving."""
        self._unread_since = None
        self._connection.paused = False
        self._update_reading()
        self._schedule_flush()

    @property
    def has_left(self) -> bool:
        """Returns whether the peer can open no further stream."""
        return self._connection.has_left

    def leave(self) -> None:
        """Asks the peer to leave; the connection closes when its streams are answered."""
        self._connection.leave()

    def abort(self) -> None:
        """Closes at once; what the peer does not take at once is lost."""
        self._flush()
        self._transport.close()  # with TLS: sends its alert
        self._transport.abort()  # `close` would wait for the peer to read, and with TLS for its alert

    def check_times(self) -> None:
        """Enforces the time limits, and pings a silent peer; to be called once a second."""
        now, connection = self._now(), self._connection
        if self._unread_since is not None:
            if now - self._unread_since > UNSENT_S:
                self._transport.abort()
            return
        if self._max_age_s and now - self._opened_at > self._max_age_s:
            connection.leave()
        connection.check_times(now)
        silent_s = now - connection.frame_at
        if self._pinged_at is not None and connection.frame_at >= self._pinged_at:
            self._pinged_at = None
        elif self._pinged_at is not None and now - self._pinged_at > PING_S:
            self._transport.abort()
        # Bytes that never become a frame cannot contain an acknowledgement: such peers are pinged sooner.
        half_frame = connection.bytes_at > connection.frame_at and silent_s > HANDSHAKE_S
        if self._pinged_at is None and (silent_s > IDLE_S or half_frame):
            self._pinged_at = now
            connection.ping()

    def _process(self) -> None:
        """Handles input for one event-loop iteration, and continues in the next if that does not suffice."""
        self._continuation = None
        self._processing = True
        connection = self._connection
        until = self._now() + ITERATION_S
        done = connection.handle_events(until)
        while done and self._input and not connection.over and not connection.paused:
            if connection.slow_until > self._now():
                done = False
                break
            size = self._slice_bytes
            data, self._input = self._input[:size], self._input[size:]
            count = connection.receive(data)
            # Large slices for large frames, which are then copied once; small ones for small frames.
            self._slice_bytes = min(2 * size, MAX_SLICE_BYTES) if count * LARGE_FRAME_BYTES < size else SLICE_BYTES
            done = connection.handle_events(until)
            if self._input and self._now() > until:
                done = False
        self._processing = False
        if connection.wants_write or connection.over:
            self._flush()
        if done or connection.over or connection.paused:
            self._update_reading()
        else:
            self._continue()

    def _continue(self) -> None:
        """Processes the rest in the next event-loop iteration, or later after many free answers."""
        slow_s = self._connection.slow_until - self._now()
        if slow_s > 0:
            self._continuation = self._loop.call_later(slow_s, self._process)
        else:
            self._connection.slow_until = 0.0
            self._continuation = self._loop.call_soon(self._process)
        self._update_reading()

    def _update_reading(self) -> None:
        reading = not (self._connection.paused or self._input or self._continuation is not None)
        if self._discarded is None and reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        if self._input and self._continuation is None and not self._connection.paused:
            self._continuation = self._loop.call_soon(self._process)

    def _wake(self) -> None:
        if not (self._processing or self._flush_scheduled):
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        self._flush_scheduled = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        connection = self._connection
        if connection.paused and not connection.over:
            return
        data = connection.output()
        transport = self._transport
        if transport.is_closing() or self._discarded is not None:
            return
        if data:
            transport.write(data)
        if connection.over:
            self._linger()

    def _linger(self) -> None:
        """Closes so that the peer gets all written bytes: a socket with unread input is reset."""
        transport = self._transport
        self._discarded = 0
        self._input = memoryview(b"")
        if not transport.can_write_eof():  # TLS: its close is an alert behind the data
            transport.close()
            return
        transport.write_eof()
        if not self._reading:
            transport.resume_reading()
        self._loop.call_later(LINGER_S, transport.abort)
