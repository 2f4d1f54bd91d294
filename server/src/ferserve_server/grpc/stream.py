"""Implements one call as an HTTP/2 stream: messages in order and one at a time, one answer, time limits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import FerserveError
from ferserve_server.grpc.compression import inflate, inflate_large, max_inflated_bytes
from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.messages import PREFIX_BYTES, Message, MessageReader, framed, whole_message
from ferserve_server.grpc.request import read_request
from ferserve_server.grpc.trailers import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    RESPONSE_HEADERS,
    metadata_headers,
)
from ferserve_server.http2.flow_control import OversizeWindow
from ferserve_server.http2.limits import MESSAGE_S, OVERSIZE_S
from ferserve_server.http2.stream import Stream
from ferserve_server.services.callers import caller_of_transport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.request import RequestHead
    from ferserve_server.http2.engine import Headers
    from ferserve_server.http2.stream import Connection
    from ferserve_server.services.limits import RequestLimits


class Call(Protocol):
    """Answers a call. Event loop only. Nothing is called after `on_cancel`, or after the end of the answer."""

    @property
    def is_unary(self) -> bool:
        """Returns whether the request is one message, due in time; a stream may pause between messages."""

    @property
    def ready(self) -> bool:
        """Returns whether the next message is accepted; on a change the call calls `GrpcStream.deliver`."""

    def on_message(self, message: bytes) -> None:
        """Handles a message."""

    def on_half_close(self) -> None:
        """Handles the end of the messages."""

    def on_error(self, error: ReceiveError) -> None:
        """Handles an error in the following bytes."""

    def on_writable(self) -> None:
        """Resumes sending: the peer takes more."""

    def on_cancel(self) -> None:
        """Stops the work: the caller has left, and nothing may be sent any more."""


class CallOpener(Protocol):
    """Starts calls. Event loop only."""

    @property
    def limits(self) -> RequestLimits:
        """Returns the bounds of a request."""

    @property
    def inflated(self) -> OversizeWindow:
        """Returns the bound on large decompressed messages of all calls together."""

    def open(self, stream: GrpcStream, head: RequestHead, /) -> Call | None:
        """Starts a call; returns None if it is rejected, and so answered."""


class GrpcStream(Stream):
    """Carries one gRPC call on an HTTP/2 stream. Event loop only.

    Args of the constructor:
        router: Finds what answers the call.

    Attributes:
        call: Answers; None before it has begun, and after the end of the answer.
        head: The beginning of the call.
    """

    head: RequestHead
    call: Call | None = None
    _reader: MessageReader | None = None
    _begun = False
    _pending: deque[Message]
    _message_since: float | None = None
    _error: ReceiveError | None = None
    _half_closed = False
    _delivering = False
    _inflating: asyncio.Task[None] | None = None

    def __init__(  # sets what `Stream.__init__` does: calling that would take a hundredth of a call
        self, router: CallOpener, connection: Connection, stream_id: int, opened_at: float, *, ended: bool
    ) -> None:
        self.connection = connection
        self.id = stream_id
        self.opened_at = opened_at
        self.remote_ended = ended
        self._router = router

    # Called by calls

    @property
    def caller(self) -> CallerId:
        """Returns the caller."""
        transport = self.connection.transport
        return UNKNOWN_CALLER if transport is None else caller_of_transport(transport)

    def begin(self, metadata: Iterable[tuple[str, str | bytes]] = ()) -> None:
        """Sends the headers of the response unless they are sent."""
        if not self._begun:
            self._begun = True
            self.connection.send_headers(self, RESPONSE_HEADERS + metadata_headers(metadata))

    def answer(self, message: bytes, trailers: Headers = OK) -> None:
        """Ends the call with its only message."""
        self.call = None
        if self._begun:
            self.connection.send_data(self, framed(message))
            self.connection.send_trailers(self, trailers)
        else:
            self.connection.respond(self, RESPONSE_HEADERS, framed(message), trailers)

    def send(self, message: bytes) -> None:
        """Sends a message. If the stream is `blocked` then, wait for `Call.on_writable`."""
        self.begin()
        self.connection.send_data(self, framed(message))

    def finish(self, trailers: Headers, *, free: bool = False) -> None:
        """Ends the call; `free`: the request cost its caller next to nothing, and many such are slowed down."""
        self.call = None
        if free:
            self.connection.charge_answer()
        if self._begun:
            self.connection.send_trailers(self, trailers)
        else:
            self.connection.send_headers(self, RESPONSE_HEADERS + trailers, end=True)

    def reject(self, headers: Headers) -> None:
        """Ends the call with headers that are not gRPC's."""
        self.connection.charge_answer()
        self.connection.send_headers(self, headers, end=True)

    def deliver(self) -> None:
        """Delivers the messages that the call is ready for."""
        if self._reader is None or self._delivering:
            return
        self._delivering = True
        had_pending = bool(self._pending)
        while self._pending and self._inflating is None and self.call is not None and self.call.ready:
            self._deliver(self._pending.popleft())
        self._delivering = False
        if self._pending or self._inflating is not None or self.call is None:
            return
        if had_pending and self._reader.partial:
            self._message_since = self.connection.now()  # the peer may have waited for the call until now
            self._ask_for_rest(self._reader)
        if self._error is not None:
            error, self._error = self._error, None
            self._half_closed = False
            self.call.on_error(error)
        elif self._half_closed:
            self._half_closed = False
            self.call.on_half_close()

    # Implements Stream

    def on_headers(self, headers: Headers) -> None:
        """Starts the call."""
        head = self.head = read_request(headers)
        if head.timeout_s is not None:
            self.deadline = self.opened_at + head.timeout_s
        call = self._router.open(self, head)
        if call is not None and not self.local_ended:  # else it is answered already
            self.call = call
            if self.remote_ended:
                call.on_half_close()

    def on_data(self, data: bytes, *, ended: bool) -> bool:
        """Handles a frame; usually it holds one whole message, and all of the request if that is unary."""
        call = self.call
        if self._reader is None and call is not None and (ended or not call.is_unary) and call.ready:
            message = whole_message(data, self._router.limits.max_message_bytes)
            if message is not None:
                if ended:
                    self.connection.consume_later(self.id, len(data))
                else:
                    self.connection.consume(self.id, len(data))
                call.on_message(message)
                if ended and self.call is not None:
                    call.on_half_close()
                return True
        return self._on_part(data, ended=ended)

    def on_end(self) -> None:
        """Ends the request."""
        reader = self._reader
        if reader is None:
            if self.call is not None:
                self.call.on_half_close()
            return
        if reader.partial and reader.error is None:
            self._error = MessageError(INTERNAL, "The stream ended within a message.")
        self._half_closed = True
        self.deliver()

    def on_writable(self) -> None:
        """Notifies the call."""
        if self.call is not None:
            self.call.on_writable()

    def on_closed(self) -> None:
        """Cancels the call."""
        call, self.call = self.call, None
        if self._reader is not None:
            self._pending.clear()
            if self._inflating is not None:
                self._inflating.cancel()
            self._router.inflated.give_back(self)
        if call is not None:
            call.on_cancel()

    def on_shed(self) -> None:
        """Fails the call."""
        self._fail(MessageError(RESOURCE_EXHAUSTED, "Too many bytes of incomplete messages. Try again later."))

    def check_times(self, now: float) -> None:
        """Fails a call whose message takes too long."""
        super().check_times(now)
        if self.call is None or self.remote_ended:
            return
        since = self._message_since if self._reader is not None and not self._pending else None
        limit_s = MESSAGE_S
        if self.has_oversize_window:
            since = self.window_granted_at  # not before its grant
            limit_s = OVERSIZE_S if self.connection.memory.oversize.contended else MESSAGE_S
        elif self.call.is_unary:
            since = self.opened_at
        if since is not None and now - since > limit_s:
            self._fail(MessageError(DEADLINE_EXCEEDED, f"The message did not come within {limit_s:g} s."))

    # Implementation

    def _on_part(self, data: bytes, *, ended: bool) -> bool:
        reader = self._reader
        if reader is None:
            reader = self._reader = MessageReader(self._router.limits, self.head.encoding)
            self._pending = deque()
        if reader.error is not None:
            self.connection.consume(self.id, len(data))
            return ended
        self.hold(len(data))
        if self.local_ended:  # shed
            return True
        messages = reader.feed(data)
        if messages:
            self._keep(messages)
        if reader.error is not None:
            self._error = reader.error
        elif reader.partial:
            if self._message_since is None:
                self._message_since = self.connection.bytes_at
            self._ask_for_rest(reader)
        if ended:
            self.on_end()
        else:
            self.deliver()
        return ended or bool(messages)

    def _ask_for_rest(self, reader: MessageReader) -> None:
        """Requests room for the rest of a message, unless the messages before it will leave theirs."""
        if reader.missing and not self._pending:
            self.ask_for_window(reader.missing)

    def _keep(self, messages: list[Message]) -> None:
        """Keeps complete messages until the call is ready for them."""
        self._message_since = None
        self.end_oversize()
        if self.call is not None and self.call.is_unary:
            self.leave_room_for_end()
        self._pending += messages

    def _fail(self, error: MessageError) -> None:
        if self._reader is not None:
            self._reader.error = error
            self._pending.clear()
        self._message_since = None
        if self.call is not None:
            self.call.on_error(error)

    def _deliver(self, message: Message) -> None:
        # A unary call has had its message: a wider window would only cost a frame.
        self.release(PREFIX_BYTES + len(message.data), renew=self.call is None or not self.call.is_unary)
        if not message.compressed:
            self._on_message(message.data)
            return
        limits = self._router.limits
        try:
            inflated = inflate(message.data, self.head.encoding, limits)
        except (FerserveError, MessageError) as error:
            self._fail_message(error)
            return
        if inflated is not None:
            self._on_message(inflated)
            return
        self._inflating = asyncio.get_running_loop().create_task(self._inflate_large(message.data))

    async def _inflate_large(self, data: bytes) -> None:
        limits, memory = self._router.limits, self._router.inflated
        memory.give_back(self)  # what the message before took
        granted = asyncio.get_running_loop().create_future()
        memory.ask(self, max_inflated_bytes(len(data), limits), granted.set_result)
        await granted
        try:
            inflated = await inflate_large(data, self.head.encoding, limits)
        except (FerserveError, MessageError) as error:
            self._fail_message(error)
        else:
            self._on_message(inflated)
        self._inflating = None
        self.deliver()

    def _on_message(self, message: bytes) -> None:
        if self.call is not None:
            self.call.on_message(message)

    def _fail_message(self, error: ReceiveError) -> None:
        """Records the error, which the call gets after earlier messages, and drops later bytes."""
        if self._reader is not None:
            self._reader.error = self._error = error.with_traceback(None)
            self._pending.clear()
            self.release(self.held_bytes)


def new_inflated_window(max_message_bytes: int) -> OversizeWindow:
    """Makes the bound on large decompressed messages of a process, which are granted in order."""
    return OversizeWindow(max(32 * 2**20, max_message_bytes))
