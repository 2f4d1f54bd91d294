"""Implements one HTTP/2 client connection without its socket: frames of calls out, answers in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from load.answer_blocks import AnswerBlocks
from load.call_frames import FIRST_WINDOW, MAX_WINDOW, beginning
from load.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME_BYTES,
    ErrorCode,
    Frame,
    FrameReader,
    Kind,
    Setting,
    read_increment,
    read_settings,
    without_padding,
    write_frame,
    write_reset,
    write_window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from load.call_frames import CallFrames

_CODES: Final = {str(code.value[0]): code.name for code in grpc.StatusCode}


@dataclass(slots=True, eq=False)
class OpenCall:
    """Holds an unanswered call.

    Attributes:
        due_s: When it was to be sent, in seconds.
        sent_s: When it was.
        stream_id: Number of its stream; 0 while it has none.
        sent_bytes: Bytes of its DATA that are on their way.
        window: Bytes that the peer takes on its stream beyond those.
        has_message: Whether a message of the answer came.
        ended: Whether it is over.
    """

    due_s: float
    sent_s: float
    stream_id: int = 0
    sent_bytes: int = 0
    window: int = 0
    has_message: bool = False
    ended: bool = False


class Lane:
    """Sends calls within the server's windows, frame size and stream limit.

    Args of the constructor:
        frames: What every call sends.
        ended: Called with a call that has ended, and "" or the code of its error.

    Attributes:
        unsent: What is to be written to the socket, in order.
    """

    def __init__(self, frames: CallFrames, ended: Callable[[OpenCall, str], None]) -> None:
        self._call_frames = frames
        self._ended = ended
        self.unsent: deque[bytes | memoryview] = deque([beginning()])
        self._reader = FrameReader()
        self._blocks = AnswerBlocks()
        self._block = b""
        self._open: dict[int, OpenCall] = {}
        self._without_stream: deque[OpenCall] = deque()
        self._without_window: dict[int, OpenCall] = {}
        self._next_id = 1
        self._room = self._first_window = FIRST_WINDOW
        self._max_frame = MAX_FRAME_BYTES
        self._max_streams = MAX_WINDOW
        self._received = 0

    def begin(self, call: OpenCall) -> None:
        """Starts a call: sends what the server's windows allow now, and the rest later."""
        if len(self._open) >= self._max_streams:
            self._without_stream.append(call)
            return
        call.stream_id = self._next_id
        call.window = self._first_window
        self._next_id += 2
        self._open[call.stream_id] = call
        self.unsent.append(self._call_frames.headers(call.stream_id))
        self._send(call)

    def give_up(self, call: OpenCall) -> None:
        """Ends a call that has taken too long."""
        call.ended = True
        if call.stream_id:
            self.unsent.append(write_reset(call.stream_id, ErrorCode.CANCEL))
            self._close(call)

    def receive(self, data: bytes) -> None:
        """Handles bytes of the server.

        Raises:
            ConnectionError: It ends the connection.
            hpack.HPACKError: A header block cannot be read.
        """
        for frame in self._reader.feed(data):
            self._take(frame)

    def _take(self, frame: Frame) -> None:  # noqa: C901 - a case for each kind of frame
        match frame.kind:
            case Kind.DATA:
                self._received += len(frame.payload)
                if self._received * 2 > MAX_WINDOW:
                    self.unsent.append(write_window_update(0, self._received))
                    self._received = 0
                call = self._open.get(frame.stream_id)
                if call is not None:
                    call.has_message |= len(frame.payload) > 0
                    if frame.flags & END_STREAM:
                        self._end(call, "NO_STATUS")
            case Kind.HEADERS | Kind.CONTINUATION:
                self._block += without_padding(frame) if frame.kind == Kind.HEADERS else frame.payload
                # Of a block in several frames the first one ends the stream, and is gone: none is that long.
                if frame.flags & END_HEADERS:
                    block, self._block = self._block, b""
                    self._headers(frame, self._blocks.status(block))
            case Kind.RST_STREAM:
                call = self._open.get(frame.stream_id)
                if call is not None:
                    self._over(call, f"RST_STREAM {int.from_bytes(frame.payload)}")
            case Kind.SETTINGS if not frame.flags & ACK:
                self._set_up(frame)
            case Kind.PING if not frame.flags & ACK:
                self.unsent.append(write_frame(Kind.PING, ACK, 0, frame.payload))
            case Kind.WINDOW_UPDATE:
                self._widen(frame.stream_id, read_increment(frame))
            case Kind.GOAWAY:
                raise ConnectionError(f"the server ends the connection: {frame.payload!r}")

    def _headers(self, frame: Frame, status: str) -> None:
        call = self._open.get(frame.stream_id)
        if call is None:
            return
        if status == "0":
            self._end(call, "" if call.has_message else "NO_MESSAGE")
        elif status or frame.flags & END_STREAM:
            self._end(call, _CODES.get(status, "NO_STATUS"))

    def _end(self, call: OpenCall, code: str) -> None:
        if call.sent_bytes < self._call_frames.byte_count:
            self.unsent.append(write_reset(call.stream_id, ErrorCode.CANCEL))  # nobody wants the rest
        self._over(call, code)

    def _over(self, call: OpenCall, code: str) -> None:
        call.ended = True
        self._close(call)
        self._ended(call, code)

    def _close(self, call: OpenCall) -> None:
        self._open.pop(call.stream_id, None)
        self._without_window.pop(call.stream_id, None)
        while self._without_stream and len(self._open) < self._max_streams:
            waiting = self._without_stream.popleft()
            if not waiting.ended:
                self.begin(waiting)

    def _set_up(self, frame: Frame) -> None:
        settings = dict(read_settings(frame))
        self._max_frame = settings.get(Setting.MAX_FRAME_SIZE, self._max_frame)
        self._max_streams = settings.get(Setting.MAX_CONCURRENT_STREAMS, self._max_streams)
        change = settings.get(Setting.INITIAL_WINDOW_SIZE, self._first_window) - self._first_window
        self._first_window += change
        self.unsent.append(write_frame(Kind.SETTINGS, ACK, 0))
        for call in self._open.values():
            call.window += change
        self._send_waiting()

    def _widen(self, stream_id: int, increment: int) -> None:
        if stream_id == 0:
            self._room += increment
            self._send_waiting()
        elif (call := self._open.get(stream_id)) is not None:
            call.window += increment
            if stream_id in self._without_window:
                self._send(call)

    def _send_waiting(self) -> None:
        for call in list(self._without_window.values()):
            self._send(call)

    def _send(self, call: OpenCall) -> None:
        room = min(self._room, call.window)
        pieces = self._call_frames.data(call.stream_id, call.sent_bytes, room, self._max_frame)
        self.unsent += pieces
        byte_count = max(0, min(room, self._call_frames.byte_count - call.sent_bytes))
        call.sent_bytes += byte_count
        call.window -= byte_count
        self._room -= byte_count
        if call.sent_bytes < self._call_frames.byte_count:
            self._without_window[call.stream_id] = call
        else:
            self._without_window.pop(call.stream_id, None)
