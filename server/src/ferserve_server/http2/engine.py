"""Wraps the protocol engine, libnghttp2 through `ngh2`, which no other module imports.

`ngh2` is alpha software, so it is pinned by version and hash. A later version must pass `tests/protocol`.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Final, ParamSpec

import ngh2
from ngh2 import (
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    Event,
    NeverIndexedHeader,
    NGH2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    Setting,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from ferserve_server.http2 import limits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ConnectionClosed",
    "DataReceived",
    "Engine",
    "ErrorCode",
    "Event",
    "Headers",
    "NeverIndexedHeader",
    "PingAcknowledged",
    "PingReceived",
    "RequestReceived",
    "SettingsReceived",
    "StreamClosed",
    "StreamReset",
    "TrailersReceived",
    "WindowUpdated",
]

P = ParamSpec("P")

Headers = tuple[tuple[bytes, bytes], ...]
"""Header names and values in order."""

_CONFIGURATION: Final = ngh2.Configuration(
    auto_window_update=False,
    max_outbound_ack=limits.OUTBOUND_ACKS,
    max_settings=limits.SETTINGS_PER_FRAME,
    stream_reset_rate_limit=limits.RESET_RATE,
    max_continuations=limits.CONTINUATIONS,
    glitch_rate_limit=limits.GLITCH_RATE,
    max_inbound_header_list_size=limits.HEADER_LIST_BYTES,
    max_inbound_header_count=limits.HEADER_COUNT,
)

_GOAWAY: Final = struct.Struct(">HBBBLLL")


class EngineError(Exception):
    """Reports a broken rule or limit after which the connection must be closed."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Engine:
    """Wraps the protocol state of one server connection. Not thread-safe.

    Operations on streams that the peer has closed do nothing: the engine knows of a reset before its event is
    handled.

    Args of the constructor:
        max_header_list_bytes: Advertised bound on a header list.

    Attributes:
        send_headers: Queues the headers of a response: number of the stream, headers, `end_stream`.
        send_data: Queues a part of the body: number of the stream, bytes.
        send_trailers: Queues the end of a response behind its body: number of the stream, trailers.
        reset: Resets a stream: its number, code.
        ping: Queues a PING with a payload of eight bytes.
        announce_shutdown: Queues a GOAWAY that lets streams through which are on their way.
        reject_new_streams: Queues the last GOAWAY: later streams are ignored, and open ones continue.
        queued_bytes: Returns the body bytes that wait for windows, of a stream or of all.
        events: Returns and clears what happened.
        connection: Of the library; for `want_write` alone, which is asked so often that a property costs.
    """

    def __init__(self, max_header_list_bytes: int) -> None:
        self.connection = self._connection = connection = ngh2.Connection(ngh2.Role.SERVER, _CONFIGURATION)
        self.send_headers = _unless_closed(connection.send_response)
        self.send_data = _unless_closed(connection.send_data)
        self.send_trailers = _unless_closed(connection.send_trailers)
        self.reset = _unless_closed(connection.reset_stream)
        self.ping = _unless_closed(connection.ping)
        self.announce_shutdown = _unless_closed(connection.send_shutdown_notice)
        self.reject_new_streams = _unless_closed(connection.send_goaway)
        self.events = connection.events
        self.queued_bytes = connection.queued_body_size
        connection.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.MAX_STREAMS,
                Setting.INITIAL_WINDOW_SIZE: limits.STREAM_WINDOW_BYTES,
                Setting.MAX_FRAME_SIZE: limits.DATA_FRAME_BYTES,
                Setting.MAX_HEADER_LIST_SIZE: max_header_list_bytes,
            }
        )
        connection.set_local_window_size(limits.CONNECTION_WINDOW_BYTES)

    def receive(self, data: bytes | memoryview) -> None:
        """Parses bytes.

        Raises:
            EngineError: The connection cannot continue.
        """
        try:
            self._connection.receive_data(data)
        except ngh2.DenialOfServiceError as error:
            raise EngineError(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from None
        except NGH2Error as error:
            raise EngineError(ErrorCode.PROTOCOL_ERROR, str(error)) from None

    def output(self) -> bytes:
        """Returns everything that the windows allow; b"" after the connection failed."""
        try:
            return self._connection.data_to_send()
        except NGH2Error:
            return b""

    def respond(self, stream_id: int, headers: Headers, body: bytes, trailers: Headers) -> None:
        """Queues a whole response."""
        connection = self._connection
        try:
            connection.send_response(stream_id, headers)
            connection.send_data(stream_id, body)
            connection.send_trailers(stream_id, trailers)
        except NGH2Error:
            pass

    def consume(self, stream_id: int, byte_count: int) -> None:
        """Lets the peer send more in place of received bytes."""
        with contextlib.suppress(NGH2Error, ValueError):
            self._connection.acknowledge_received_data(byte_count, stream_id)

    def window_left(self, stream_id: int) -> int:
        """Returns the bytes that the peer may send on a stream; 0 if it is closed."""
        try:
            return self._connection.stream_local_window_size(stream_id)
        except NGH2Error:
            return 0

    def terminate(self, code: ErrorCode, text: str) -> bytes:
        """Returns everything that can still be sent, and a GOAWAY with the reason."""
        try:
            self._connection.send_goaway(code, debug_data=text.encode()[:200])
            return self._connection.data_to_send()
        except NGH2Error:  # failed already, and without output: by hand
            debug = text.encode()[:200]
            return _GOAWAY.pack(0, 8 + len(debug), 7, 0, 0, 0, code) + debug


def _unless_closed(operation: Callable[P, None]) -> Callable[P, None]:
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:  # noqa: SIM105 - `suppress` would take as long as the operation
            operation(*args, **kwargs)
        except NGH2Error:
            pass

    return run
