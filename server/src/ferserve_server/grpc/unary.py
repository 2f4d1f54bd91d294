"""Answers a unary call without a Task: its message is handled as soon as it is complete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError
from ferserve_server.domain.trace import traced_context
from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.trailers import UNIMPLEMENTED, error_trailers, status_trailers
from ferserve_server.runtime.eager_task import EagerTask
from ferserve_server.services.call_tracker import EXPIRED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ferserve_server.domain.trace import Operation
    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.stream import GrpcStream
    from ferserve_server.services.calls import Calls

_FREE_BYTES = 256
"""Maximum size of messages that cost their caller next to nothing if they are rejected: no face fits."""


class UnaryCall:
    """Implements `stream.Call`. Event loop only.

    Args of the constructor:
        calls: Tracks calls.
        operation: Its name in traces.
        method: Its name in the metrics.
        handle: Answers its message, given the deadline on the server's clock, in seconds, or None.
        stream: Carries it.
    """

    is_unary: ClassVar = True
    ready: ClassVar = True
    __slots__ = (
        "_calls", "_context", "_deadline", "_handle", "_is_small", "_message", "_method", "_run", "_stream",
        "_timer", "_trace",
    )  # fmt: skip

    def __init__(
        self,
        calls: Calls,
        operation: Operation,
        method: str,
        handle: Callable[[bytes, float | None], Awaitable[bytes]],
        stream: GrpcStream,
    ) -> None:
        self._calls = calls
        self._method = method
        self._handle = handle
        self._stream = stream
        self._message: bytes | None = None
        self._is_small = True
        self._run: EagerTask | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trace = calls.begin_trace(operation, stream.head.trace)
        self._context = None if self._trace is None else traced_context((self._trace.span,))
        timeout_s = stream.head.timeout_s
        if timeout_s is not None:
            self._deadline = calls.deadline_in(timeout_s)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout_s, self._expire, context=self._context)

    def on_message(self, message: bytes) -> None:
        """Stores the message."""
        if self._message is not None:
            self._reject_count("more than one message")
        else:
            self._message = message
            self._is_small = len(message) < _FREE_BYTES

    def on_half_close(self) -> None:
        """Starts to answer."""
        if self._message is None:
            self._reject_count("no message")
        else:
            self._begin(self._answer)

    def on_error(self, error: ReceiveError) -> None:
        """Answers with the error."""
        if isinstance(error, MessageError):
            self._stop_timer()
            self._stream.finish(error.trailers, free=True)
            return

        async def fail() -> bytes:
            raise error

        self._begin(fail)

    def on_writable(self) -> None:
        """Does nothing: there is one answer."""

    def on_cancel(self) -> None:
        """Stops the work."""
        self._stop_timer()
        if self._run is not None:
            self._run.cancel()

    def _begin(self, handle: Callable[[], Awaitable[bytes]]) -> None:
        metadata = self._stream.head.metadata
        tracked = self._calls.carried(self._method, metadata, handle, self._send, self._trace)
        self._run = EagerTask(tracked, self._stop_timer, self._context)

    def _answer(self) -> Awaitable[bytes]:
        message, self._message = self._message, None
        return self._handle(message or b"", self._deadline)

    async def _send(self, outcome: bytes | FerserveError) -> None:
        if isinstance(outcome, FerserveError):
            self._stream.finish(error_trailers(outcome), free=self._is_small)
        else:
            self._stream.answer(outcome)

    def _reject_count(self, found: str) -> None:
        self._stop_timer()
        text = f"{self._method} takes one message; there was {found}."
        self._stream.finish(status_trailers(UNIMPLEMENTED, text), free=True)

    def _expire(self) -> None:
        """Answers in place of work whose caller no longer waits, as gRPC does."""
        if self._run is not None:
            self._run.cancel(EXPIRED)
        self._stream.finish(error_trailers(DeadlineExpiredError()))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
