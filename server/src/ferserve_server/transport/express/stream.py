"""One stream of HTTP/2, which carries one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ferserve_server.transport.express.bounds import STREAM_WINDOW_BYTES
from ferserve_server.transport.express.flow import ReceiveWindow
from ferserve_server.transport.express.messages import MessageReader

if TYPE_CHECKING:
    from collections import deque

    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.transport.express.faults import Fault
    from ferserve_server.transport.express.output import Output
    from ferserve_server.transport.express.streams import Streams


class Call(Protocol):
    """What answers a call. Event loop only. Nothing of it is called after `cancel`, or after the answer's end."""

    @property
    def is_unary(self) -> bool:
        """Whether it consists of one message, which must come in time; else it may be silent between."""

    def take(self, message: bytes) -> None:
        """Takes a message in; the call says by `Stream.release` when it has no more need for its bytes."""

    def end(self) -> None:
        """Notes that no message follows."""

    def fail(self, fault: Fault) -> None:
        """Notes that what follows cannot be taken."""

    def writable(self) -> None:
        """Notes that everything that was sent is on its way."""

    def cancel(self) -> None:
        """The caller is gone: nothing is to be sent any more."""


class Incoming:
    """What comes on a stream, if that takes more than one frame.

    Attributes:
        reader: Cuts it into messages.
        window: How much may come.
        since: Since when a message is under way that is not complete, in seconds, or None.
        inflated: Bytes of messages that were compressed and are not released.
    """

    __slots__ = ("inflated", "reader", "since", "window")

    def __init__(self, limits: RequestLimits, encoding: str) -> None:
        self.reader: Final = MessageReader(limits, encoding)
        self.inflated = 0
        self.window: Final = ReceiveWindow(STREAM_WINDOW_BYTES)
        self.since: float | None = None


class Stream:
    """Event loop only.

    Attributes:
        id: Its number.
        call: What answers it; None before it has begun, and after the stream is closed.
        opened_at: When it came, in seconds.
        encoding: What messages that say so are compressed with.
        incoming: What comes, if that takes more than one frame.
        remote_ended: Whether the peer has sent its last.
        send_left: Bytes that the peer takes on it.
        begun: Whether headers were sent.
        unsent: What waits for the peer's window, or None.
        trailers: What is sent behind that.
    """

    __slots__ = (
        "_output",
        "_streams",
        "begun",
        "call",
        "encoding",
        "id",
        "incoming",
        "opened_at",
        "remote_ended",
        "send_left",
        "trailers",
        "unsent",
    )

    def __init__(self, streams: Streams, output: Output, stream_id: int, opened_at: float, encoding: str) -> None:
        self._streams = streams
        self._output = output
        self.id = stream_id
        self.call: Call | None = None
        self.opened_at = opened_at
        self.encoding = encoding
        self.incoming: Incoming | None = None
        self.remote_ended = False
        self.send_left = output.stream_window
        self.begun = False
        self.unsent: deque[bytes] | None = None
        self.trailers = b""

    def answer(self, message: bytes) -> None:
        """Answers a unary call, and so ends it."""
        self._output.answer(self, message)

    def send(self, message: bytes) -> None:
        """Sends a message. While `unsent` is not None the peer takes no more: wait for `Call.writable`."""
        self._output.send(self, message)
        self._streams.credit.answered()

    def finish(self, trailers: bytes) -> None:
        """Ends the call with these trailers, when everything is sent."""
        self._output.finish(self, trailers)

    def refuse(self, block: bytes) -> None:
        """Ends the call with these headers alone."""
        self._output.refuse(self, block)

    def release(self, message: bytes) -> None:
        """Lets the peer send more in place of a message."""
        self._streams.release(self, message)

    def all_sent(self) -> None:
        """Called when nothing waits for the peer's window any more."""
        if self.call is not None:
            self.call.writable()

    def end_sent(self) -> None:
        """Called when the end of the answer is on its way."""
        self._streams.answered(self)
