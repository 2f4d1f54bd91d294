"""A unary call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError
from ferserve_server.runtime.eager_task import EagerTask
from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.trailers import UNIMPLEMENTED, error_block, status_block

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ferserve_server.services.calls import Calls
    from ferserve_server.transport.express.faults import Fault
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Stream


class UnaryCall:
    """Implements `stream.Call`. Event loop only.

    Args of the constructor:
        calls: Takes it in and sees it out.
        method: Its name in the metrics.
        handle: Answers its message, given the deadline on the server's clock, in seconds, or None.
        stream: What carries it.
        head: What it began with.
    """

    is_unary: ClassVar = True
    __slots__ = ("_calls", "_deadline", "_handle", "_head", "_message", "_method", "_run", "_stream", "_timer")

    def __init__(
        self,
        calls: Calls,
        method: str,
        handle: Callable[[bytes, float | None], Awaitable[bytes]],
        stream: Stream,
        head: RequestHead,
    ) -> None:
        self._calls = calls
        self._method = method
        self._handle = handle
        self._stream = stream
        self._head = head
        self._message: bytes | None = None
        self._run: EagerTask | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if head.timeout_s is not None:
            self._deadline = calls.deadline_in(head.timeout_s)
            self._timer = asyncio.get_running_loop().call_later(head.timeout_s, self._expire)

    def take(self, message: bytes) -> None:
        """Takes the message in."""
        if self._message is not None:
            self._refuse_count("more than one message")
        else:
            self._message = message

    def end(self) -> None:
        """Begins to answer."""
        if self._message is None:
            self._refuse_count("no message")
        else:
            self._begin(self._answer)

    def fail(self, fault: Fault) -> None:
        """Answers with why the message cannot be taken."""
        if isinstance(fault, MessageFault):
            self._finish(fault.trailers)
            return

        async def refuse() -> bytes:
            raise fault

        self._begin(refuse)

    def writable(self) -> None:
        """There is nothing more to send."""

    def cancel(self) -> None:
        """Stops the work."""
        self._stop_timer()
        if self._run is not None:
            self._run.cancel()

    def _begin(self, handle: Callable[[], Awaitable[bytes]]) -> None:
        self._run = EagerTask(
            self._calls.carried(self._method, self._head.metadata, handle, self._send), self._stop_timer
        )

    def _answer(self) -> Awaitable[bytes]:
        message, self._message = self._message, None
        return self._handle(message or b"", self._deadline)

    async def _send(self, outcome: bytes | FerserveError) -> None:
        if isinstance(outcome, FerserveError):
            self._stream.finish(error_block(outcome))
        else:
            self._stream.answer(outcome)

    def _refuse_count(self, what: str) -> None:
        self._finish(status_block(UNIMPLEMENTED, f"{self._method} takes one message; there was {what}."))

    def _expire(self) -> None:
        """Answers in place of work that nobody waits for any more, as gRPC does."""
        if self._run is not None:
            self._run.cancel()
        self._stream.finish(error_block(DeadlineExpiredError()))

    def _finish(self, trailers: bytes) -> None:
        self._stop_timer()
        self._stream.finish(trailers)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
