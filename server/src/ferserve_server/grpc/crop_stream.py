"""Implements ClassifyStream: starts messages that arrive together at once, and writes ready answers together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from ferserve_server.domain.errors import DeadlineExpiredError
from ferserve_server.domain.trace import untraced_context
from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.trailers import OK, error_trailers
from ferserve_server.pipeline.ordered_responses import ResponseQueue
from ferserve_server.runtime.eager_task import EagerTask

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.stream import GrpcStream
    from ferserve_server.pipeline.classify_stream import CropAnswer, CropSequence
    from ferserve_server.services.calls import OpenStream


class _Due:
    """Holds an unanswered message: its work, and its result."""

    __slots__ = ("answer", "run")

    def __init__(self) -> None:
        self.run: EagerTask | None = None
        self.answer: CropAnswer | None = None


class CropStreamCall:
    """Implements `stream.Call`. Event loop only.

    Args of the constructor:
        stream: Carries it.
        opened: Counts it.
        sequence: Its messages.
        open_calls: Open streams, for the drain.
        max_unanswered: Bound on the answers that are due. Further messages wait in the stream's window.
    """

    is_unary: ClassVar = False

    def __init__(
        self,
        stream: GrpcStream,
        opened: OpenStream,
        sequence: CropSequence[bytes, bytes],
        open_calls: set[CropStreamCall],
        *,
        max_unanswered: int,
    ) -> None:
        self._stream = stream
        self._opened = opened
        self._sequence = sequence
        self._line: ResponseQueue[_Due] = ResponseQueue(max_unanswered)
        self._is_open = True
        self._advancing = False
        self._open_calls = open_calls
        open_calls.add(self)
        self._timer: asyncio.TimerHandle | None = None
        if stream.head.timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(stream.head.timeout_s, self._expire)

    @property
    def ready(self) -> bool:
        """Returns whether the next message is accepted."""
        return not self._line.full

    def on_message(self, message: bytes) -> None:
        """Starts the work on a message."""
        if self._line.ended:
            return
        try:
            work = self._sequence.begin(message)
        except Exception as error:  # noqa: BLE001 - the caller gets a status, whatever it is
            self._end(error)
            return
        due = _Due()
        self._line.due.append(due)
        context = None if self._opened.trace is None else untraced_context()
        due.run = EagerTask(self._answer(due, work), self._advance, context)

    def on_half_close(self) -> None:
        """Ends when everything is answered."""
        self._end()

    def on_error(self, error: ReceiveError) -> None:
        """Ends with the error when everything before is answered."""
        self._end(error)

    def on_writable(self) -> None:
        """Sends answers that became ready meanwhile."""
        self._advance()

    def on_cancel(self) -> None:
        """Stops the work."""
        if self._is_open:
            self._opened.count(asyncio.CancelledError())
            self._close()

    def drain(self) -> None:
        """Stops accepting, and ends when every accepted message is answered."""
        self._line.drain()
        self._advance()

    def _end(self, error: BaseException | None = None) -> None:
        self._line.end(error)
        self._advance()

    def _advance(self) -> None:
        """Sends ready answers, accepts messages up to the bound, and ends a finished call; not reentrant."""
        if self._advancing or not self._is_open:
            return
        self._advancing = True
        try:
            while self._send_ready():
                self._stream.deliver()
        finally:
            self._advancing = False
        if self._line.over and not self._stream.blocked and self._is_open:
            self._finish(self._line.error or (self._sequence.cut_short() if self._line.cut_short else None))

    def _send_ready(self) -> bool:
        due, stream, sent = self._line.due, self._stream, False
        while due and (answer := due[0].answer) is not None and not stream.blocked:
            due.popleft()
            stream.send(self._sequence.answered(answer))
            sent = True
        return sent

    async def _answer(self, due: _Due, work: Coroutine[Any, Any, CropAnswer]) -> None:
        due.answer = await work

    def _expire(self) -> None:
        """Ends a call whose caller no longer waits."""
        if self._is_open:
            self._finish(DeadlineExpiredError())

    def _finish(self, error: BaseException | None) -> None:
        if isinstance(error, MessageError):
            self._opened.count(asyncio.CancelledError())
            self._stream.finish(error.trailers)
        else:
            reported = self._opened.count(error)
            self._stream.finish(OK if reported is None else error_trailers(reported))
        self._line.error = None  # its traceback refers to this object and the last message
        self._close()

    def _close(self) -> None:
        self._is_open = False
        self._open_calls.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for due in self._line.due:
            if due.run is not None:
                due.run.cancel()
        self._opened.close()
