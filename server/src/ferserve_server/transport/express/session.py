"""One connection of HTTP/2 without its socket: bytes come in, calls begin and end, bytes go out (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.transport.express import frames
from ferserve_server.transport.express.block_assembly import BlockAssembly
from ferserve_server.transport.express.bounds import (
    CONNECTION_WINDOW_BYTES,
    DATA_FRAME_BYTES,
    HANDSHAKE_S,
    MAX_STREAMS,
    STREAM_WINDOW_BYTES,
    WAITED_S,
)
from ferserve_server.transport.express.credit import Credit
from ferserve_server.transport.express.flow import INITIAL_SEND_WINDOW
from ferserve_server.transport.express.frame_rules import check_control
from ferserve_server.transport.express.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    Frame,
    FrameReader,
    Kind,
    Setting,
    StreamFault,
)
from ferserve_server.transport.express.header_blocks import HeaderBlocks
from ferserve_server.transport.express.output import Output
from ferserve_server.transport.express.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Call, Stream

log = structlog.get_logger(__name__)

_SLACK: Final = 2
"""Metadata of this many times the limit ends the connection; what is between gets a clear INVALID_ARGUMENT."""

_OF_A_CALL: Final = frozenset({Kind.DATA, Kind.HEADERS})
"""Frames that a peer need not have credit for."""

_PROBE: Final = b"ferserve"
"""What our pings carry."""


class Session:
    """Event loop only. Nothing here waits, and nothing here knows of sockets.

    Args of the constructor:
        begin: Begins a call; None if it is answered already.
        limits: Bounds of a request.
        now: The time, in seconds.
        wake: Called when there is output to take.

    Attributes:
        output: What goes to the peer.
        heard_at: When the peer was heard last, in seconds.
    """

    def __init__(
        self,
        begin: Callable[[Stream, RequestHead], Call | None],
        limits: RequestLimits,
        now: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._now = now
        self.output = Output(wake)
        self._ended = False
        self.heard_at = self._opened_at = now()
        self._credit = Credit(self.heard_at)
        self._streams = Streams(begin, limits, self.output, self._credit)
        self._most_header_bytes = limits.max_metadata_bytes * _SLACK
        self._blocks = HeaderBlocks(self._most_header_bytes)
        self._frames = FrameReader(DATA_FRAME_BYTES, max(MAX_FRAME_BYTES, self._most_header_bytes))
        self._preface = PREFACE
        self._is_set_up = False
        self._received = 0
        self._last_id = 0
        self._final_id: int | None = None
        self._left_at: float | None = None
        self._assembly = BlockAssembly(self._most_header_bytes)
        self._take_kind: Final[dict[int, Callable[[Frame], None]]] = {
            Kind.DATA: self._data,
            Kind.HEADERS: self._headers,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._settings,
            Kind.PING: self._ping,
            Kind.WINDOW_UPDATE: self._window_update,
            Kind.CONTINUATION: self._continuation,
        }
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            Setting.MAX_FRAME_SIZE: DATA_FRAME_BYTES,
            Setting.MAX_HEADER_LIST_SIZE: self._most_header_bytes,
        }
        self.output.write(frames.write_settings(settings))
        self.output.write(frames.write_window_update(0, CONNECTION_WINDOW_BYTES - INITIAL_SEND_WINDOW))

    @property
    def over(self) -> bool:
        """Whether the connection is to be closed once the output is written."""
        return self._ended or (self._final_id is not None and not self._streams)

    def receive(self, data: bytes) -> None:
        """Takes bytes in."""
        self.heard_at = self._now()
        try:
            if self._preface:
                data = self._without_preface(data)
            for frame in self._frames.feed(data):
                if self.over:
                    return
                self._take(frame)
        except ConnectionFault as fault:
            self.end(fault.code, str(fault))
        except Exception:
            log.exception("connection failed")
            self.end(ErrorCode.INTERNAL_ERROR, "The server failed on this connection. Its log tells more.")

    def end(self, code: ErrorCode, text: str) -> None:
        """Ends the connection at once, and tells the peer why; open calls are cancelled."""
        if not self.over:
            self.output.write(frames.write_go_away(self._last_id, code, text))
            self.lost()

    def lost(self) -> None:
        """Cancels all calls: the peer is gone."""
        self._ended = True
        for stream in self._streams.all():
            self._streams.cancel(stream)

    def leave(self) -> None:
        """Asks the peer for no more calls; when it has heard, and all are answered, the connection is over."""
        if self._left_at is None and not self.over:
            self._left_at = self._now()
            self.output.write(frames.write_go_away(MAX_STREAM_ID, ErrorCode.NO_ERROR))
            self.ping()

    def ping(self) -> None:
        """Asks the peer whether it is there."""
        self.output.write(frames.write_frame(Kind.PING, 0, 0, _PROBE))

    def check_times(self) -> None:
        """Ends what takes too long; to be called about once a second."""
        now = self._now()
        if not self._is_set_up and now - self._opened_at > HANDSHAKE_S:
            self.end(ErrorCode.PROTOCOL_ERROR, f"no HTTP/2 within {HANDSHAKE_S:g} s")
        elif self._assembly.since is not None and now - self._assembly.since > HANDSHAKE_S:
            self.end(ErrorCode.PROTOCOL_ERROR, f"a header block is not complete after {HANDSHAKE_S:g} s")
        else:
            self._streams.check_times(now)
            if self._left_at is not None and self._final_id is None and now - self._left_at > HANDSHAKE_S:
                self._take_no_more()

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if self._assembly.since is not None:
            self._assembly.check(frame)
        if not self._is_set_up and (kind != Kind.SETTINGS or frame.flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a connection begins with SETTINGS")
        if kind not in _OF_A_CALL:
            self._spend()
            check_control(frame)
        take = self._take_kind.get(kind)
        if take is None:
            # PRIORITY says nothing to us, and who says GOAWAY goes by itself when it has its answers; frames of
            # extensions are to be ignored (4.1).
            return
        try:
            take(frame)
        except StreamFault as fault:
            self._spend()
            self.output.reset(frame.stream_id, fault.code)
            stream = self._streams.get(frame.stream_id)
            if stream is not None:
                self._streams.cancel(stream)

    def _spend(self) -> None:
        if not self._credit.spend(self.heard_at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without use")

    def _without_preface(self, data: bytes) -> bytes:
        expected = self._preface
        if data[: len(expected)] != expected[: len(data)]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is a gRPC server: speak HTTP/2")
        self._preface = expected[len(data) :]
        return data[len(expected) :]

    def _headers(self, frame: Frame) -> None:
        if frame.stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {frame.stream_id} is no client's")
        block = frame.payload
        if frame.flags & ~(END_HEADERS | END_STREAM):
            block = frames.without_padding(frame)
        if frame.flags & END_HEADERS:
            self._take_block(frame, block)
        else:
            self._assembly.begin(frame, block, self.heard_at)

    def _continuation(self, frame: Frame) -> None:
        self._assembly.add(frame.payload)
        if frame.flags & END_HEADERS:
            self._take_block(*self._assembly.end())

    def _take_block(self, frame: Frame, block: bytes) -> None:
        stream_id, ended = frame.stream_id, bool(frame.flags & END_STREAM)
        if stream_id <= self._last_id:
            self._trailers(stream_id, block, ended=ended)
            return
        self._last_id = stream_id
        head = self._blocks.read(block)
        if self._final_id is None or stream_id <= self._final_id:
            self._streams.open(stream_id, head, self.heard_at, ended=ended)

    def _trailers(self, stream_id: int, block: bytes, *, ended: bool) -> None:
        """Takes a second block of a stream, or one of a stream that is closed: HPACK's table must follow."""
        self._blocks.decode(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._spend()
        elif stream.remote_ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "headers after the end")
        elif not ended:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "headers in the middle")
        else:
            self._streams.end(stream)

    def _data(self, frame: Frame) -> None:
        self._received += len(frame.payload)
        if self._received * 2 > CONNECTION_WINDOW_BYTES:
            # At once, whatever becomes of the bytes: it is the streams' windows that bound what is held.
            self.output.write(frames.write_window_update(0, self._received))
            self._received = 0
        if frame.stream_id in self._streams:
            if not self._streams.data(frame, self.heard_at):
                self._spend()
            return
        if frame.stream_id > self._last_id or frame.stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"data of stream {frame.stream_id}, which is none")
        # It was on its way when the stream was closed (5.1).
        if not self._streams.late_data(frame):
            self._spend()

    def _reset(self, frame: Frame) -> None:
        if frame.stream_id == 0 or frame.stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"reset of stream {frame.stream_id}, which is none")
        stream = self._streams.get(frame.stream_id)
        if stream is not None:
            if self.heard_at - stream.opened_at >= WAITED_S:
                self._credit.pay_back()
            self._streams.cancel(stream)

    def _settings(self, frame: Frame) -> None:
        if frame.flags & ACK:
            return
        self.output.write(frames.write_frame(Kind.SETTINGS, ACK, 0))
        self.output.set_up(frames.read_settings(frame), self._streams.all())
        self._is_set_up = True

    def _ping(self, frame: Frame) -> None:
        if not frame.flags & ACK:
            self.output.write(frames.write_frame(Kind.PING, ACK, 0, frame.payload))
        elif self._left_at is not None and self._final_id is None:
            # Every call that the peer made before it heard is here.
            self._take_no_more()

    def _take_no_more(self) -> None:
        self._final_id = self._last_id
        self.output.write(frames.write_go_away(self._final_id, ErrorCode.NO_ERROR))

    def _window_update(self, frame: Frame) -> None:
        increment = frames.read_increment(frame)
        stream_id = frame.stream_id
        if stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a window of stream {stream_id}, which is none")
        if stream_id == 0:
            self.output.widen(increment)
        elif (stream := self._streams.get(stream_id)) is not None:
            self.output.widen(increment, stream)
