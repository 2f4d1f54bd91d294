"""The streams of a connection: opened, filled, answered, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.transport.express import frames
from ferserve_server.transport.express.bounds import (
    MAX_INFLATED_BYTES,
    MAX_STREAMS,
    MESSAGE_S,
    STREAM_WINDOW_BYTES,
)
from ferserve_server.transport.express.compression import Inflated, wire_bytes
from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.frames import END_STREAM, PADDED, ErrorCode, StreamFault
from ferserve_server.transport.express.messages import PREFIX_BYTES, whole_message
from ferserve_server.transport.express.room import Room
from ferserve_server.transport.express.stream import Incoming, Stream
from ferserve_server.transport.express.trailers import DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.credit import Credit
    from ferserve_server.transport.express.frames import Frame
    from ferserve_server.transport.express.output import Output
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Call

_SMALL_BYTES = 256
"""DATA frames below this that complete no message are work without use."""

_END_BYTES = 1
"""What a message leaves of the window: nghttp2, and so Node, looks for the end only while it may send."""

_MOST_BYTES_ON_THEIR_WAY = MAX_STREAMS * STREAM_WINDOW_BYTES
"""What a peer may have sent on all its streams before it hears that they are answered."""


class Streams:
    """Event loop only.

    Args of the constructor:
        begin: Begins a call; None if it is answered already.
        limits: Bounds of a request.
        output: What goes to the peer.
        credit: The peer's account.
    """

    def __init__(
        self,
        begin: Callable[[Stream, RequestHead], Call | None],
        limits: RequestLimits,
        output: Output,
        credit: Credit,
    ) -> None:
        self._begin = begin
        self._limits = limits
        self._output = output
        self.credit = credit
        self._open: dict[int, Stream] = {}
        self._inflated = 0
        self._on_their_way = 0
        self._room = Room(limits.max_message_bytes + PREFIX_BYTES + _END_BYTES)

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._open

    def get(self, stream_id: int) -> Stream | None:
        """An open stream."""
        return self._open.get(stream_id)

    def all(self) -> list[Stream]:
        """Those that are open."""
        return list(self._open.values())

    def open(self, stream_id: int, head: RequestHead, now: float, *, ended: bool) -> None:
        """Begins a call.

        Raises:
            StreamFault: There are too many.
        """
        if len(self._open) >= MAX_STREAMS:
            raise StreamFault(ErrorCode.REFUSED_STREAM, f"{MAX_STREAMS} streams are open")
        stream = self._open[stream_id] = Stream(self, self._output, stream_id, now, head.encoding)
        stream.remote_ended = ended
        call = self._begin(stream, head)
        if call is not None and stream_id in self._open:  # else it was answered at once
            stream.call = call
            if ended:
                call.end()

    def data(self, frame: Frame, now: float) -> bool:
        """Takes bytes of an open stream in; False if that was work without use.

        Raises:
            ConnectionFault: There is more padding than data.
            StreamFault: The peer was not to send them.
        """
        stream = self._open[frame.stream_id]
        if stream.remote_ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "data after the end")
        if stream.incoming is None and frame.flags == END_STREAM:  # and not PADDED
            message = whole_message(frame.payload, self._limits.max_message_bytes)
            if message is not None and stream.call is not None:
                stream.remote_ended = True
                stream.call.take(message)
                if stream.call is not None:
                    stream.call.end()
                return True
        return self._data_in_parts(stream, frame, now)

    def late_data(self, frame: Frame) -> bool:
        """Takes bytes of a closed stream; False if they are work without use.

        Who is answered before the request is complete, as with a message that is too long, has as much on its way
        as the stream's window was. Many such calls side by side must not cost the others their connection.
        """
        byte_count = len(frame.payload)
        if byte_count < _SMALL_BYTES or byte_count > self._on_their_way:
            return False
        self._on_their_way -= byte_count
        return True

    def end(self, stream: Stream) -> None:
        """Notes that the peer has sent its last."""
        stream.remote_ended = True
        if stream.call is None:
            return
        if stream.incoming is not None and stream.incoming.reader.partial:
            stream.call.fail(MessageFault(INTERNAL, "The stream ended within a message."))
        else:
            stream.call.end()

    def release(self, stream: Stream, message: bytes) -> None:
        """See `Stream.release`."""
        if stream.incoming is not None:
            if type(message) is Inflated:
                self._let_go(stream.incoming, len(message))
            self._released(stream, stream.incoming, wire_bytes(message) + PREFIX_BYTES)

    def answered(self, stream: Stream) -> None:
        """See `Stream.end_sent`."""
        self.credit.answered()
        if not stream.remote_ended:
            # The peer need not send the rest (8.1).
            self._output.reset(stream.id, ErrorCode.NO_ERROR)
            left = stream.incoming.window.left if stream.incoming is not None else STREAM_WINDOW_BYTES
            self._on_their_way = min(_MOST_BYTES_ON_THEIR_WAY, self._on_their_way + left)
        self._close(stream)

    def cancel(self, stream: Stream) -> None:
        """Closes a stream whose caller is gone."""
        call = stream.call
        self._close(stream)
        if call is not None:
            call.cancel()

    def check_times(self, now: float) -> None:
        """Refuses calls whose messages take too long."""
        for stream in self.all():
            if stream.call is None or stream.remote_ended:
                continue
            since = stream.incoming.since if stream.incoming is not None else None
            if stream.call.is_unary:
                since = stream.opened_at
            if since is None or now - since <= MESSAGE_S:
                continue
            if stream.incoming is not None:
                stream.incoming.since = None  # told once
            stream.call.fail(MessageFault(DEADLINE_EXCEEDED, f"The message did not come within {MESSAGE_S:g} s."))

    def _data_in_parts(self, stream: Stream, frame: Frame, now: float) -> bool:
        incoming = stream.incoming
        if incoming is None:
            incoming = stream.incoming = Incoming(self._limits, stream.encoding)
        if not incoming.window.received(len(frame.payload)):
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the stream's window")
        payload = frame.payload
        if frame.flags & PADDED:
            payload = frames.without_padding(frame)
            self._give_back(stream, incoming, len(frame.payload) - len(payload))
        broken_before = incoming.reader.fault is not None
        messages = incoming.reader.feed(payload)
        for message in messages:
            self._take(stream, incoming, message)
        if incoming.reader.fault is not None:
            if stream.call is not None and not broken_before:
                stream.call.fail(incoming.reader.fault)
        elif stream.id in self._open:
            self._follow(stream, incoming, now, completed=bool(messages))
            if frame.flags & END_STREAM:
                self.end(stream)
        return bool(messages) or len(payload) >= _SMALL_BYTES or bool(frame.flags & END_STREAM)

    def _take(self, stream: Stream, incoming: Incoming, message: bytes) -> None:
        if type(message) is Inflated:
            # Windows do not bound what becomes of few bytes.
            incoming.inflated += len(message)
            self._inflated += len(message)
            limit = max(MAX_INFLATED_BYTES, self._limits.max_message_bytes)
            if self._inflated > limit and stream.call is not None:
                text = (
                    f"Compressed messages on this connection take more than {limit} bytes. Send fewer at a time."
                )
                stream.call.fail(MessageFault(RESOURCE_EXHAUSTED, text))
        if stream.call is not None:
            stream.call.take(message)

    def _let_go(self, incoming: Incoming, byte_count: int) -> None:
        incoming.inflated -= byte_count
        self._inflated -= byte_count

    def _follow(self, stream: Stream, incoming: Incoming, now: float, *, completed: bool) -> None:
        """Keeps time of the message that has begun, and makes room for it."""
        if completed:
            incoming.since = None
            self._leave_room(stream)
        if not incoming.reader.partial:
            return
        if incoming.since is None:
            incoming.since = now
        more = incoming.reader.missing - incoming.window.left + _END_BYTES
        if more > 0 and not self._room.has(stream.id):
            self._give(self._room.ask(stream.id, more))

    def _leave_room(self, stream: Stream) -> None:
        back, given = self._room.leave(stream.id)
        if back and stream.incoming is not None:
            stream.incoming.window.narrow(back)
        self._give(given)

    def _give(self, given: list[tuple[int, int]]) -> None:
        for stream_id, byte_count in given:
            incoming = self._open[stream_id].incoming
            if incoming is not None:
                incoming.window.widen(byte_count)
                self._output.write(frames.write_window_update(stream_id, byte_count))

    def _give_back(self, stream: Stream, incoming: Incoming, byte_count: int) -> None:
        """Lets the peer send in place of padding, at once: the room of a message is for the message alone."""
        incoming.window.returned(byte_count)
        if byte_count:
            self._output.write(frames.write_window_update(stream.id, byte_count))

    def _released(self, stream: Stream, incoming: Incoming, byte_count: int) -> None:
        increment = incoming.window.released(byte_count)
        if increment and not stream.remote_ended:
            self._output.write(frames.write_window_update(stream.id, increment))

    def _close(self, stream: Stream) -> None:
        if self._open.pop(stream.id, None) is None:
            return
        stream.call = None
        self._output.closed(stream)
        if stream.incoming is not None:
            self._let_go(stream.incoming, stream.incoming.inflated)
            self._leave_room(stream)
