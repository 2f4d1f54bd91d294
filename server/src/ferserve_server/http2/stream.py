"""Defines one stream of a connection; the layer above derives from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from ferserve_server.http2.engine import ErrorCode
from ferserve_server.http2.limits import STREAM_WINDOW_BYTES, UNSENT_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ferserve_server.http2.engine import Engine, Headers
    from ferserve_server.http2.flow_control import ReceiveMemory


class Connection(Protocol):
    """Declares the part of `connection.H2Connection` that streams use. Event loop only."""

    held_bytes: int

    @property
    def engine(self) -> Engine:
        """Returns the protocol engine."""

    @property
    def memory(self) -> ReceiveMemory:
        """Returns the bounds of received bytes of all connections."""

    @property
    def now(self) -> Callable[[], float]:
        """Returns the time, in seconds."""

    @property
    def bytes_at(self) -> float:
        """Returns the arrival time of the last bytes, in seconds."""

    @property
    def transport(self) -> asyncio.BaseTransport | None:
        """Returns the transport, which identifies the peer."""

    def shed(self) -> None:
        """Fails the request that holds most."""

    def respond(self, stream: Stream, headers: Headers, body: bytes, trailers: Headers, /) -> None:
        """Sends a whole response."""

    def send_headers(self, stream: Stream, headers: Headers, /, *, end: bool = False) -> None:
        """Sends headers."""

    def send_data(self, stream: Stream, data: bytes, /) -> None:
        """Sends data, as the peer takes it."""

    def send_trailers(self, stream: Stream, trailers: Headers, /) -> None:
        """Ends the response when its data is sent."""

    def reset(self, stream: Stream, code: ErrorCode, /) -> None:
        """Ends the stream at once."""

    def consume(self, stream_id: int, byte_count: int, /) -> None:
        """Lets the peer send more."""

    def consume_later(self, stream_id: int, byte_count: int, /) -> None:
        """Lets the peer send more on the connection, with the next output."""

    def charge_answer(self) -> None:
        """Charges an answer to a request that cost its caller next to nothing."""


class Stream(ABC):
    """Receives a request and sends a response. Event loop only.

    Attributes:
        connection: Carries it.
        id: Its number.
        opened_at: When its headers came, in seconds.
        deadline: When it is reset if the peer has not taken the response, in seconds, or None.
        remote_ended: Whether the request is complete.
        local_ended: Whether the response is complete, sent or not.
        blocked: Whether the peer takes no more for now: wait for `on_writable`.
        unsent_since: Since when a part of the response waits for the peer, in seconds, or None.
        held_bytes: Received bytes that are not released.
        acknowledged_bytes: Held bytes in whose place the peer may send more all the same.
        unconsumed_bytes: Released bytes in whose place the peer need not send more.
        has_oversize_window: Whether it asked for room beyond its window, which it has since `window_granted_at`.
    """

    # Defaults of the class, because few streams ever set them.
    deadline: float | None = None
    local_ended = False
    blocked = False
    unsent_since: float | None = None
    held_bytes = 0
    acknowledged_bytes = 0
    unconsumed_bytes = 0
    has_oversize_window = False
    window_granted_at: float | None = None

    def __init__(self, connection: Connection, stream_id: int, opened_at: float, *, ended: bool) -> None:
        self.connection = connection
        self.id = stream_id
        self.opened_at = opened_at
        self.remote_ended = ended

    # For the layer above to implement

    @abstractmethod
    def on_headers(self, headers: Headers) -> None:
        """Starts the request."""

    @abstractmethod
    def on_data(self, data: bytes, *, ended: bool) -> bool:
        """Handles a DATA frame of an open stream: consumes or holds its bytes; returns whether it was useful."""

    @abstractmethod
    def on_end(self) -> None:
        """Ends the request after trailers."""

    @abstractmethod
    def on_writable(self) -> None:
        """Resumes sending: the stream is no longer blocked."""

    @abstractmethod
    def on_closed(self) -> None:
        """Stops all work: the stream is closed, completely answered or not. Called once."""

    @abstractmethod
    def on_shed(self) -> None:
        """Fails the request, because too many bytes of incomplete messages are held."""

    # For the layer above to call

    def hold(self, byte_count: int) -> None:
        """Holds received bytes: the peer cannot send more in their place."""
        self.held_bytes += byte_count
        self.connection.memory.buffer.add(self.connection, byte_count)

    def release(self, byte_count: int, *, renew: bool = True) -> None:
        """Releases held bytes; `renew`: the peer may send more in their place."""
        byte_count = min(byte_count, self.held_bytes)
        if byte_count:
            self.held_bytes -= byte_count
            self.connection.memory.buffer.add(self.connection, -byte_count)
            acknowledged = min(byte_count, self.acknowledged_bytes)
            self.acknowledged_bytes -= acknowledged
            if renew:
                self.connection.consume(self.id, byte_count - acknowledged)
            else:
                self.unconsumed_bytes += byte_count - acknowledged

    def ask_for_window(self, missing_bytes: int) -> None:
        """Requests room beyond the window, so that a message with this many bytes to come fits.

        The window keeps its size: with room granted, the peer may send more in place of bytes that are still held.
        libnghttp2 cannot narrow a window again: it then withholds as many bytes from the next one.
        """
        oversize = self.connection.memory.oversize
        # One byte is left, because nghttp2 clients, and so Node's, send the end only while they may send data.
        more = missing_bytes + 1 - self.connection.engine.window_left(self.id)
        if more <= 0:
            return
        if self.window_granted_at is not None:
            self._acknowledge(oversize.granted(self) - self.acknowledged_bytes)
        elif not self.has_oversize_window:
            self.has_oversize_window = True
            # libnghttp2 announces no less than half of a window.
            oversize.ask(self, more + STREAM_WINDOW_BYTES // 2, self._grant)

    def end_oversize(self) -> None:
        """Returns the room of `ask_for_window`: the message is complete."""
        if self.has_oversize_window:
            self.has_oversize_window, self.window_granted_at = False, None
            self.connection.memory.oversize.give_back(self)

    def leave_room_for_end(self) -> None:
        """Lets the peer send the end of a request of one message that filled the window."""
        if not self.remote_ended and not self.connection.engine.window_left(self.id):
            self._acknowledge(self.held_bytes)

    def closed(self) -> None:
        """Releases everything; for the connection to call."""
        if self.held_bytes or self.unconsumed_bytes or self.has_oversize_window:
            self.release(self.held_bytes, renew=False)
            self.connection.consume_later(self.id, self.unconsumed_bytes)
            self.end_oversize()
        self.on_closed()

    def check_times(self, now: float) -> None:
        """Resets the stream if the peer does not take the response in time."""
        if self.unsent_since is None:
            return
        if now - self.unsent_since > UNSENT_S or (self.deadline is not None and now > self.deadline):
            self.connection.reset(self, ErrorCode.CANCEL)

    def _grant(self, byte_count: int) -> None:
        self.window_granted_at = self.connection.now()
        self._acknowledge(byte_count)

    def _acknowledge(self, byte_count: int) -> None:
        """Lets the peer send more in place of held bytes, at most this many."""
        byte_count = min(byte_count, self.held_bytes - self.acknowledged_bytes)
        if byte_count > 0:
            self.acknowledged_bytes += byte_count
            self.connection.consume(self.id, byte_count)
