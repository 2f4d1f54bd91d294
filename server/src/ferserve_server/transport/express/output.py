"""What goes to one peer: frames in order, as many bytes as its windows allow. Nothing here knows of sockets."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from ferserve_server.transport.express.flow import INITIAL_SEND_WINDOW, grown
from ferserve_server.transport.express.frames import (
    END_HEADERS,
    END_STREAM,
    MAX_FRAME_BYTES,
    ErrorCode,
    Kind,
    Setting,
    write_frame,
    write_headers,
    write_reset,
)
from ferserve_server.transport.express.messages import PREFIX_BYTES, write_prefix
from ferserve_server.transport.express.trailers import BEGIN_BLOCK, FORGET_TABLE, OK_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ferserve_server.transport.express.stream import Stream


def _headers_head(block: bytes, flags: int) -> bytes:
    """The first five bytes of a HEADERS frame, before the number of the stream."""
    return write_frame(Kind.HEADERS, flags, 0, block)[:5]


_BEGIN: Final = struct.Struct(f">5sL{len(BEGIN_BLOCK)}s")
_BEGIN_HEAD: Final = _headers_head(BEGIN_BLOCK, END_HEADERS)
_ANSWER: Final = struct.Struct(f">5sL{len(BEGIN_BLOCK)}sHBBBLBL")
"""The headers of an answer, the head of the DATA frame of its message, and the message's prefix."""

_MESSAGE: Final = struct.Struct(">HBBBLBL")
"""The head of the DATA frame of a message, and the message's prefix."""

_END: Final = struct.Struct(f">5sL{len(OK_BLOCK)}s")
_END_HEAD: Final = _headers_head(OK_BLOCK, END_HEADERS | END_STREAM)


_TABLE_BYTES: Final = 4096
"""What a peer keeps of headers unless it says otherwise (6.5.2)."""


class Output:
    """Collects what is to be written to one connection. Event loop only.

    Args of the constructor:
        wake: Called when there is something to take after nothing was.

    Attributes:
        stream_window: Bytes that the peer takes on a new stream.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._parts: list[bytes] = []
        self._connection_left = INITIAL_SEND_WINDOW
        self.stream_window = INITIAL_SEND_WINDOW
        self._max_frame = MAX_FRAME_BYTES
        self._table_was_cut = False
        self._block_prefix = b""
        self._waiting: dict[int, Stream] = {}

    def closed(self, stream: Stream) -> None:
        """Forgets what a stream still had to send."""
        stream.unsent = None
        self._waiting.pop(stream.id, None)

    def take(self) -> bytes:
        """Everything that is to be written now."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def write(self, frame: bytes) -> None:
        """Adds whole frames."""
        if not self._parts:
            self._wake()
        self._parts.append(frame)

    def answer(self, stream: Stream, message: bytes) -> None:
        """Answers a unary call: headers, message and trailers."""
        length = len(message) + PREFIX_BYTES
        if (
            length > self._connection_left
            or length > stream.send_left
            or length > self._max_frame
            or self._block_prefix
        ):
            self.send(stream, message)
            self.finish(stream, OK_BLOCK)
            return
        self._connection_left -= length
        if not self._parts:
            self._wake()
        number = stream.id
        high, low = length >> 8, length & 0xFF
        self._parts += (
            _ANSWER.pack(_BEGIN_HEAD, number, BEGIN_BLOCK, high, low, 0, 0, number, 0, length - PREFIX_BYTES),
            message,
            _END.pack(_END_HEAD, number, OK_BLOCK),
        )
        stream.end_sent()

    def send(self, stream: Stream, message: bytes) -> None:
        """Sends a message of an answer, with the headers before the first."""
        if not stream.begun:
            stream.begun = True
            self.write(self._headers(stream.id, BEGIN_BLOCK, 0))
        length = len(message) + PREFIX_BYTES
        if stream.unsent is None and length <= min(self._connection_left, stream.send_left, self._max_frame):
            self._connection_left -= length
            stream.send_left -= length
            self.write(_MESSAGE.pack(length >> 8, length & 0xFF, 0, 0, stream.id, 0, len(message)) + message)
            return
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append(write_prefix(len(message)) + message)
        self._waiting[stream.id] = stream
        self._send_waiting((stream,))

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """Ends an answer, when all its messages are sent."""
        if stream.unsent is not None:
            stream.trailers = trailers
            return
        block = trailers if stream.begun else BEGIN_BLOCK + trailers
        self.write(self._headers(stream.id, block, END_STREAM))
        stream.end_sent()

    def refuse(self, stream: Stream, block: bytes) -> None:
        """Answers with headers only, which are not gRPC's."""
        self.write(self._headers(stream.id, block, END_STREAM))
        stream.end_sent()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Resets a stream."""
        self.write(write_reset(stream_id, code))

    def set_up(self, settings: Sequence[tuple[int, int]], streams: Iterable[Stream]) -> None:
        """Does as the peer's settings say, for the open `streams` too. Of what comes twice the last one holds.

        Raises:
            ConnectionFault: A window is more than one can be.
        """
        last = dict(settings)
        self._max_frame = last.get(Setting.MAX_FRAME_SIZE, self._max_frame)
        smaller = any(name == Setting.HEADER_TABLE_SIZE and value < _TABLE_BYTES for name, value in settings)
        if smaller and not self._table_was_cut:
            self._table_was_cut, self._block_prefix = True, FORGET_TABLE
        change = last.get(Setting.INITIAL_WINDOW_SIZE, self.stream_window) - self.stream_window
        if change:
            self.stream_window += change
            for stream in streams:
                stream.send_left = grown(stream.send_left, change)
            self._send_waiting(list(self._waiting.values()))

    def widen(self, increment: int, stream: Stream | None = None) -> None:
        """Sends more, since the peer takes more: on a stream, or on the connection.

        Raises:
            ConnectionFault: The window of the connection is more than one can be, or that of the stream.
        """
        if stream is not None:
            stream.send_left = grown(stream.send_left, increment)
            if stream.unsent is not None:
                self._send_waiting((stream,))
            return
        self._connection_left = grown(self._connection_left, increment)
        if self._waiting:
            self._send_waiting(list(self._waiting.values()))

    def _send_waiting(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            if self._connection_left <= 0:
                return
            self._send_some(stream)
            if stream.unsent:
                continue
            del self._waiting[stream.id]
            stream.unsent = None
            if stream.trailers:
                self.finish(stream, stream.trailers)
            else:
                stream.all_sent()

    def _send_some(self, stream: Stream) -> None:
        unsent = stream.unsent
        while unsent:
            room = min(self._connection_left, stream.send_left, self._max_frame)
            if room <= 0:
                return
            data = unsent.popleft()
            if len(data) > room:
                unsent.appendleft(data[room:])
                data = data[:room]
            self._connection_left -= len(data)
            stream.send_left -= len(data)
            self.write(write_frame(Kind.DATA, 0, stream.id, data))

    def _headers(self, stream_id: int, block: bytes, flags: int) -> bytes:
        if self._block_prefix:
            block, self._block_prefix = self._block_prefix + block, b""
        return write_headers(stream_id, block, flags, min(self._max_frame, MAX_FRAME_BYTES))
