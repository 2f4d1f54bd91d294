"""Implements one server connection without its socket: bytes in, calls of `Stream`, bytes out (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ferserve_server.http2 import engine as h2
from ferserve_server.http2.engine import Engine, EngineError, ErrorCode
from ferserve_server.http2.limits import (
    EARLY_RESET_S,
    EVENTS_PER_CHECK,
    GOAWAY_S,
    HANDSHAKE_S,
    QUEUED_ANSWER_BYTES,
    QUEUED_BYTES,
    AbuseBudget,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ferserve_server.http2.engine import Headers
    from ferserve_server.http2.flow_control import ReceiveMemory
    from ferserve_server.http2.stream import Stream

log = structlog.get_logger(__name__)

_SMALL_BYTES: Final = 256
"""Maximum size of DATA frames that count as useless if they complete no message."""

_CONSUMED_AT_ONCE: Final = 64
"""Number of streams whose bytes are consumed together: 64 of 256 KiB are far below the connection's window."""

_KEEPALIVE, _SHUTDOWN = b"ferserve", b"shutdown"
"""Payloads of pings."""


class StreamFactory(Protocol):
    """Makes the stream of a request."""

    def __call__(self, connection: H2Connection, stream_id: int, opened_at: float, *, ended: bool) -> Stream:
        """Makes a stream; `ended`: whether the request has headers only."""


class H2Connection:
    """Implements one server connection. Event loop only, and nothing here waits.

    Args of the constructor:
        make_stream: Makes the stream of a request.
        memory: Bounds what all connections hold.
        max_header_list_bytes: Advertised bound on a header list.
        now: Returns the time, in seconds.
        wake: Called once when there is output after none was.

    Attributes:
        engine: The protocol engine.
        memory: See above.
        now: See above.
        paused: Whether the peer does not read its socket, so that nothing is to be sent.
        frame_at: When the last whole frame came, in seconds.
        bytes_at: When the last bytes came, in seconds.
        slow_until: Until when the peer's bytes are not to be read, in seconds.
        held_bytes: Received bytes of incomplete messages.
        transport: Carries the bytes, and knows the peer; None where the bytes are carried by hand.
    """

    transport: asyncio.BaseTransport | None = None

    def __init__(
        self,
        make_stream: StreamFactory,
        memory: ReceiveMemory,
        max_header_list_bytes: int,
        now: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self.engine = Engine(max_header_list_bytes)
        self._session = self.engine.connection
        self.memory = memory
        self._make_stream = make_stream
        self.now = now
        self._wake = wake
        self.paused = False
        self.frame_at = self.bytes_at = self._opened_at = now()
        self.slow_until = 0.0
        self.held_bytes = 0
        self._budget = AbuseBudget(self.frame_at)
        self._streams: dict[int, Stream] = {}
        self._sending: list[Stream] = []
        self._unconsumed: list[tuple[int, int]] = []
        self._watched = False
        self._events: list[h2.Event] = []
        self._is_set_up = False
        self._ended = False
        self._last_output = b""
        self._leaving_since: float | None = None
        self._has_pinged = False
        self._rejects_streams = False
        self._on: Final[dict[type[h2.Event], Callable[..., None]]] = {
            h2.RequestReceived: self._on_request,
            h2.DataReceived: self._on_data,
            h2.TrailersReceived: self._on_trailers,
            h2.StreamClosed: self._on_stream_closed,
            h2.SettingsReceived: self._on_settings,
            h2.PingReceived: self._on_charged,
            h2.WindowUpdated: self._on_charged,
            h2.PingAcknowledged: self._on_ping_acknowledged,
            h2.ConnectionClosed: self._on_connection_closed,
        }
        wake()

    @property
    def over(self) -> bool:
        """Returns whether the connection is to be closed once its output is written."""
        return self._ended or (self._rejects_streams and not self._streams)

    @property
    def has_left(self) -> bool:
        """Returns whether the peer can open no further stream."""
        return self._ended or self._rejects_streams

    # Input

    def receive(self, data: bytes | memoryview) -> int:
        """Parses bytes; `handle_events` does the rest. Returns the number of events."""
        if self._ended:
            return 0
        self.bytes_at = self.now()
        try:
            self.engine.receive(data)
        except EngineError as error:
            self._events += self.engine.events()
            self.handle_events()
            self.end(error.code, str(error) if self._is_set_up else "this is a gRPC server: speak HTTP/2")
            return 0
        events = self.engine.events()
        if events:
            self.frame_at = self.bytes_at
        if self._events:
            self._events += events
        else:
            self._events = events
        return len(events)

    def handle_events(self, until: float | None = None) -> bool:
        """Handles received events until a time in seconds; returns whether all are handled."""
        events, self._events = self._events, []
        try:
            on = self._on
            for at in range(0, len(events), EVENTS_PER_CHECK):
                if at and until is not None and self.now() > until:
                    self._events = events[at:] + self._events
                    return False
                for event in events[at : at + EVENTS_PER_CHECK]:
                    handle = on.get(type(event))
                    if handle is not None:
                        handle(event)
        except Exception:
            log.exception("connection failed")
            self.end(ErrorCode.INTERNAL_ERROR, "The server failed on this connection. Its log tells more.")
        return True

    # Output

    @property
    def wants_write(self) -> bool:
        """Returns whether there is output."""
        return bool(self._last_output) if self._ended else self._session.want_write

    def output(self) -> bytes:
        """Returns the bytes to write now. Streams that become writable or closed are notified."""
        if self._ended:
            output, self._last_output = self._last_output, b""
            return output
        output = self.engine.output()
        if self._leaving_since is not None and not self._has_pinged:
            self._has_pinged = True  # not before, because pings overtake other frames
            self.engine.ping(_SHUTDOWN)
            output += self.engine.output()
        if self._sending:
            if self._watched or self.engine.queued_bytes():
                output += self._note_sent()
            else:
                self._sending.clear()
        events = self.engine.events()
        if events:
            had_none = not self._events
            self._events += events
            if had_none:
                self.handle_events()
        return output

    def end(self, code: ErrorCode, text: str) -> None:
        """Ends the connection at once, with a reason for the peer."""
        if not self._ended:
            self._last_output = self.engine.terminate(code, text)
            self.lost()
            self._wake()

    def lost(self) -> None:
        """Closes all streams after the peer has disconnected."""
        self._ended = True
        self._events.clear()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.closed()

    def leave(self) -> None:
        """Asks the peer for no more streams; the connection is over when all open ones are answered."""
        if self._leaving_since is None and not self.over:
            self._leaving_since = self.now()
            self.engine.announce_shutdown()
            self._wake()

    def ping(self) -> None:
        """Asks the peer for an acknowledgement."""
        if not self.over:
            self.engine.ping(_KEEPALIVE)
            self._wake()

    def check_times(self, now: float) -> None:
        """Enforces the time limits; to be called about once a second."""
        if self._ended:
            return
        if not self._is_set_up and now - self._opened_at > HANDSHAKE_S:
            self.end(ErrorCode.PROTOCOL_ERROR, f"no HTTP/2 within {HANDSHAKE_S:g} s")
            return
        for stream in list(self._streams.values()):
            stream.check_times(now)
        if self._leaving_since is not None and now - self._leaving_since > GOAWAY_S:
            self._reject_streams()

    def shed(self) -> None:
        """Fails the stream that holds most received bytes."""
        if self._streams:
            stream = max(self._streams.values(), key=lambda each: each.held_bytes)
            stream.on_shed()
            stream.release(stream.held_bytes)

    # Streams

    def respond(self, stream: Stream, headers: Headers, body: bytes, trailers: Headers) -> None:
        """Sends a whole response."""
        self.engine.respond(stream.id, headers, body, trailers)
        self._sent_end(stream)

    def send_headers(self, stream: Stream, headers: Headers, *, end: bool = False) -> None:
        """Sends the headers of a response; `end`: it has no more."""
        self.engine.send_headers(stream.id, headers, end_stream=end)
        if end:
            self._sent_end(stream)
        else:
            self._wake()

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Sends a part of a response; the stream may be blocked then."""
        engine = self.engine
        engine.send_data(stream.id, data)
        self._budget.answered += 1
        self._sending.append(stream)
        queued = engine.queued_bytes()
        if self.paused or (
            queued > QUEUED_ANSWER_BYTES
            and (queued > QUEUED_BYTES or engine.queued_bytes(stream.id) > QUEUED_ANSWER_BYTES)
        ):
            stream.blocked = self._watched = True
        self._wake()

    def send_trailers(self, stream: Stream, trailers: Headers) -> None:
        """Ends a response."""
        self.engine.send_trailers(stream.id, trailers)
        self._sent_end(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Resets a stream; what it has not sent is dropped."""
        self.engine.reset(stream.id, code)
        self._wake()

    def consume(self, stream_id: int, byte_count: int) -> None:
        """Lets the peer send more in place of bytes of a stream that is open or closed."""
        self.engine.consume(stream_id, byte_count)
        self._wake()

    def consume_later(self, stream_id: int, byte_count: int) -> None:
        """Consumes bytes of a stream that sends no more: many together, in half of the time."""
        unconsumed = self._unconsumed
        unconsumed.append((stream_id, byte_count))
        if len(unconsumed) >= _CONSUMED_AT_ONCE:
            for each in unconsumed:
                self.engine.consume(*each)
            unconsumed.clear()
            self._wake()

    def charge_answer(self) -> None:
        """Charges an answer that cost the peer nothing."""
        pause_s = self._budget.charge_answer(self.bytes_at)
        if pause_s:
            self.slow_until = self.bytes_at + pause_s

    # Implementation

    def _sent_end(self, stream: Stream) -> None:
        stream.local_ended = True
        if not stream.remote_ended:
            self._watched = True
        self._budget.answered += 1
        self._sending.append(stream)
        self._wake()

    def _note_sent(self) -> bytes:
        """Finds the streams that have sent everything; returns further output."""
        self._watched = False
        sending, self._sending = self._sending, []
        engine = self.engine
        queued = engine.queued_bytes()
        more = False
        for stream in sending:
            unsent = engine.queued_bytes(stream.id) if queued else 0
            if not unsent:
                stream.unsent_since = None
                if stream.local_ended and not stream.remote_ended:
                    engine.reset(stream.id, ErrorCode.NO_ERROR)  # the peer need not send the rest (8.1)
                    more = True
            elif stream.unsent_since is None:
                stream.unsent_since = self.now()
            if unsent:
                self._watched = True
                if stream not in self._sending:
                    self._sending.append(stream)
            if stream.blocked and not self.paused and unsent <= QUEUED_ANSWER_BYTES and queued <= QUEUED_BYTES:
                stream.blocked = False
                if not stream.local_ended and stream.id in self._streams:
                    stream.on_writable()
        return engine.output() if more else b""

    def _spend(self) -> None:
        if not self._budget.spend(self.bytes_at):
            self.end(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without use")

    def _on_request(self, event: h2.RequestReceived) -> None:
        if self._ended:
            return
        ended = event.end_stream
        stream = self._make_stream(self, event.stream_id, self.bytes_at, ended=ended)
        self._streams[event.stream_id] = stream
        stream.on_headers(event.headers)

    def _on_data(self, event: h2.DataReceived) -> None:
        stream, data, ended = self._streams.get(event.stream_id), event.data, event.end_stream
        if stream is None or stream.local_ended:
            self.consume(event.stream_id, len(data))
            useful = ended
            if stream is not None:
                stream.remote_ended |= ended
        else:
            stream.remote_ended = ended
            useful = stream.on_data(data, ended=ended)
        if not useful and len(data) < _SMALL_BYTES:
            self._spend()

    def _on_trailers(self, event: h2.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.remote_ended = True
            if not stream.local_ended:
                stream.on_end()

    def _on_stream_closed(self, event: h2.StreamClosed) -> None:
        stream = self._streams.pop(event.stream_id, None)
        if stream is not None:
            stream.closed()
        if event.error_code and (stream is None or self.bytes_at - stream.opened_at < EARLY_RESET_S):
            self._spend()

    def _on_settings(self, event: h2.SettingsReceived) -> None:
        self._is_set_up = True
        self._on_charged(event)

    def _on_charged(self, event: h2.Event) -> None:
        del event
        self._spend()

    def _on_ping_acknowledged(self, event: h2.PingAcknowledged) -> None:
        if event.opaque_data == _SHUTDOWN and self._leaving_since is not None:
            self._reject_streams()  # every stream that the peer opened before it knew has come

    def _reject_streams(self) -> None:
        if not self._rejects_streams:
            self._rejects_streams = True
            self.engine.reject_new_streams()
            self._wake()

    def _on_connection_closed(self, event: h2.ConnectionClosed) -> None:
        """Notes that the peer has left by a GOAWAY and that all its streams are answered."""
        del event
        self.lost()
