"""Sends gRPC calls on one HTTP/2 connection, by libnghttp2 and without a socket: bytes in, bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
import ngh2

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WINDOW: Final = 2**31 - 1
"""Maximum bytes of answers in transit, because no server should wait for the load."""

_MAX_TIMEOUT: Final = 99_999_999
"""Maximum value of a grpc-timeout, because it has eight digits at most."""

_CODES: Final = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True, eq=False)
class OpenCall:
    """Holds an unanswered call.

    Attributes:
        due_s: When it was to be sent, in seconds.
        sent_s: When it was.
        stream_id: Number of its stream; 0 before it is sent.
        has_message: Whether a message of the answer came.
        ended: Whether it is over.
    """

    due_s: float
    sent_s: float
    stream_id: int = 0
    has_message: bool = False
    ended: bool = False


def request_headers(address: str, path: str, timeout_s: float) -> Headers:
    """Returns the headers of a call.

    Args:
        address: HOST:PORT.
        path: /package.Service/Method.
        timeout_s: Deadline that the call states, in seconds; rounded to milliseconds.
    """
    timeout_ms = min(_MAX_TIMEOUT, max(1, round(timeout_s * 1e3)))
    return (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", address.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"%dm" % timeout_ms),
    )


class ClientConnection:
    """Sends equal calls within the server's windows, frame size and stream limit, which the library keeps.

    Args of the constructor:
        headers: The headers of every call.
        message: What every call sends.
        ended: Called with a call that has ended, and "" or the code of its error.
    """

    def __init__(self, headers: Headers, message: bytes, ended: Callable[[OpenCall, str], None]) -> None:
        self._headers = headers
        self._body = b"\0" + len(message).to_bytes(4) + message
        self._ended = ended
        self._open: dict[int, OpenCall] = {}
        self._connection = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration())
        self._connection.initiate_connection(
            {ngh2.Setting.ENABLE_PUSH: 0, ngh2.Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW}
        )
        self._connection.set_local_window_size(MAX_WINDOW)

    def begin(self, call: OpenCall) -> None:
        """Starts a call: it is sent as the server's windows and stream limit allow."""
        call.stream_id = self._connection.send_request(self._headers)
        self._connection.send_data(call.stream_id, self._body, end_stream=True)
        self._open[call.stream_id] = call

    def give_up(self, call: OpenCall) -> None:
        """Ends a call that has taken too long."""
        call.ended = True
        self._open.pop(call.stream_id)
        self._connection.reset_stream(call.stream_id, ngh2.ErrorCode.CANCEL)

    def output(self, max_bytes: int) -> bytes:
        """Returns bytes to write to the socket, at most so many; none if nothing may be sent now.

        Raises:
            ConnectionError: The server has broken the protocol.
        """
        data = self._connection.data_to_send(max_bytes)
        if not data and not self._connection.want_read:
            raise ConnectionError("the connection has ended after an error of the protocol")
        return data

    def receive(self, data: bytes) -> None:
        """Handles bytes of the server.

        Raises:
            ConnectionError: It ends the connection, or breaks the protocol.
        """
        try:
            self._connection.receive_data(data)
        except ngh2.NGH2Error as error:
            raise ConnectionError(f"the server breaks the protocol: {error}") from error
        for event in self._connection.events():
            self._handle(event)

    def _handle(self, event: ngh2.Event) -> None:
        match event:
            case ngh2.GoAwayReceived():
                raise ConnectionError(f"the server ends the connection: {event.debug_data!r}")
            case ngh2.ConnectionClosed():
                raise ConnectionError("the connection is closed")
            case ngh2.DataReceived():
                call = self._open.get(event.stream_id)
                if call is not None:
                    call.has_message |= len(event.data) > 0
                    if event.end_stream:
                        self._finish(call, "NO_STATUS")
            case ngh2.ResponseReceived() if event.end_stream:
                self._finish_with(event.stream_id, dict(event.headers))
            case ngh2.TrailersReceived():
                self._finish_with(event.stream_id, dict(event.headers))
            case ngh2.StreamReset():
                if (call := self._open.get(event.stream_id)) is not None:
                    self._finish(call, f"RST_STREAM {event.error_code}", reset=False)

    def _finish_with(self, stream_id: int, trailers: dict[bytes, bytes]) -> None:
        call = self._open.get(stream_id)
        if call is None:
            return
        status = trailers.get(b"grpc-status", b"")
        if status == b"0":
            self._finish(call, "" if call.has_message else "NO_MESSAGE")
        else:
            self._finish(call, _CODES.get(status, "NO_STATUS"))

    def _finish(self, call: OpenCall, code: str, *, reset: bool = True) -> None:
        del self._open[call.stream_id]
        call.ended = True
        if reset and self._connection.queued_body_size(call.stream_id):
            self._connection.reset_stream(call.stream_id, ngh2.ErrorCode.CANCEL)  # nobody wants the rest
        self._ended(call, code)
