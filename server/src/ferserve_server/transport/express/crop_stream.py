"""ClassifyStream: messages that come together are begun together, and answers that are ready go out together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from ferserve_server.domain.errors import DeadlineExpiredError
from ferserve_server.pipeline.ordered_responses import ResponseQueue
from ferserve_server.runtime.eager_task import EagerTask
from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.trailers import OK_BLOCK, error_block

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ferserve_server.pipeline.classify_stream import CropAnswer, CropSequence
    from ferserve_server.services.calls import OpenStream
    from ferserve_server.transport.express.faults import Fault
    from ferserve_server.transport.express.stream import Stream


class _Due:
    """An answer that is due: the work on it, and what came of it."""

    __slots__ = ("answer", "run")

    def __init__(self) -> None:
        self.run: EagerTask | None = None
        self.answer: CropAnswer | None = None


class CropStreamCall:
    """Implements `stream.Call`. Event loop only.

    Args of the constructor:
        stream: What carries it.
        opened: What counts it.
        sequence: Its messages; made for it.
        open_calls: Where it is while it is open, for the drain.
        max_unanswered: Bound on the answers that are due. Further messages stay in the stream's window.
        timeout_s: After how many seconds the caller waits no more, or None.
    """

    is_unary: ClassVar = False

    def __init__(
        self,
        stream: Stream,
        opened: OpenStream,
        sequence: CropSequence[bytes, bytes],
        open_calls: set[CropStreamCall],
        *,
        max_unanswered: int,
        timeout_s: float | None,
    ) -> None:
        self._stream = stream
        self._opened = opened
        self._sequence = sequence
        self._line: ResponseQueue[_Due] = ResponseQueue(max_unanswered)
        self._inbox: deque[bytes | Fault] = deque()
        self._sender_done = False
        self._is_open = True
        self._going_on = False
        self._open_calls = open_calls
        open_calls.add(self)
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)

    def take(self, message: bytes) -> None:
        """Begins a message, or keeps it for later."""
        self._inbox.append(message)
        self._go_on()

    def end(self) -> None:
        """Ends when everything is answered."""
        self._sender_done = True
        self._go_on()

    def fail(self, fault: Fault) -> None:
        """Ends with why, when everything before is answered."""
        self._inbox.append(fault)
        self._go_on()

    def writable(self) -> None:
        """Sends what became ready meanwhile."""
        self._go_on()

    def cancel(self) -> None:
        """Stops the work."""
        if self._is_open:
            self._opened.count(asyncio.CancelledError())
            self._close()

    def drain(self) -> None:
        """Takes no more, and ends when what was taken is answered."""
        self._line.drain()
        self._go_on()

    def _go_on(self) -> None:
        """Sends what is ready, begins what has room, and ends what is over; once at a time."""
        if self._going_on or not self._is_open:
            return
        self._going_on = True
        try:
            while self._send_ready() | self._begin_next():
                pass
        finally:
            self._going_on = False
        if self._line.over and self._stream.unsent is None:
            self._finish(self._line.error or (self._sequence.cut_short() if self._line.cut_short else None))

    def _send_ready(self) -> bool:
        line, stream, sent = self._line, self._stream, False
        while line.due and (answer := line.due[0].answer) is not None and stream.unsent is None:
            line.due.popleft()
            stream.send(self._sequence.answered(answer))
            sent = True
        return sent

    def _begin_next(self) -> bool:
        line, begun = self._line, False
        while self._inbox and not line.ended and not line.full:
            self._begin(self._inbox.popleft())
            begun = True
        if self._sender_done and not self._inbox:
            line.end()
        return begun

    def _begin(self, sent: bytes | Fault) -> None:
        if not isinstance(sent, bytes):
            self._line.end(sent)
            return
        self._stream.release(sent)
        try:
            work = self._sequence.begin(sent)
        except Exception as error:  # noqa: BLE001 - the caller gets a status, whatever it is
            self._line.end(error)
            return
        due = _Due()
        self._line.due.append(due)
        due.run = EagerTask(self._answer(due, work), self._go_on)

    @staticmethod
    async def _answer(due: _Due, work: Coroutine[Any, Any, CropAnswer]) -> None:
        due.answer = await work

    def _expire(self) -> None:
        """Ends it, since the caller waits no more."""
        if self._is_open:
            self._opened.count(asyncio.CancelledError())
            self._stream.finish(error_block(DeadlineExpiredError()))
            self._close()

    def _finish(self, error: BaseException | None) -> None:
        if isinstance(error, MessageFault):
            self._opened.count(asyncio.CancelledError())
            self._stream.finish(error.trailers)
        else:
            told = self._opened.count(error)
            self._stream.finish(OK_BLOCK if told is None else error_block(told))
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
