"""Answers the messages of a stream in order, with a bound on those unanswered.

One message results in an answer or in an error of its own, so that the stream goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from ferserve_server.domain.errors import FerserveError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable


log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


async def outcome_of(work: Awaitable[Answer]) -> Answer | FerserveError:
    """Waits for the work on one message; returns its result, or the error that it raises.

    An error that is none of ours is logged, and hidden behind one whose text callers may see.
    """
    try:
        return await work
    except FerserveError as error:
        return error
    except Exception:
        log.exception("stream message failed")
        return FerserveError("The server failed on this message. Its log tells more.")


Message = TypeVar("Message")
Due = TypeVar("Due")


class ResponseQueue(Generic[Due]):
    """Queues the unanswered messages of a stream in order, and holds its end. Pure.

    Args of the constructor:
        max_unanswered: Bound on the answers that are due, 1 or more.

    Attributes:
        due: Placeholder of each answer; the user of the queue adds and removes them.
        ended: Whether no message is taken any more.
        error: What the stream ends with when nothing is due, or None.
        cut_short: Whether draining ended it before the messages did.
    """

    def __init__(self, max_unanswered: int) -> None:
        self._max_unanswered = max_unanswered
        self.due: deque[Due] = deque()
        self.ended = False
        self.error: BaseException | None = None
        self.cut_short = False

    @property
    def full(self) -> bool:
        """Returns whether a next message has to wait."""
        return len(self.due) >= self._max_unanswered

    @property
    def over(self) -> bool:
        """Returns whether everything is answered."""
        return self.ended and not self.due

    def end(self, error: BaseException | None = None) -> None:
        """Records the end of the messages, or the error that ends them."""
        if not self.ended:
            self.ended, self.error = True, error

    def drain(self) -> bool:
        """Stops accepting; returns whether it accepted until now."""
        if self.ended:
            return False
        self.ended = self.cut_short = True
        return True


class OrderedResponses(Generic[Message, Answer]):
    """Reads messages, starts work on each, and yields the answers in order.

    Reading stops while `max_unanswered` answers are due, so that a sender who does not read is held back by the
    transport's flow control. It ends when the messages end or `draining` is set; what was taken is answered first.

    Args of the constructor:
        begin: Starts the work on a message and returns where its answer will be. Must not block. An exception
            that it raises ends the stream, after everything taken before is answered.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.
    """

    def __init__(
        self, begin: Callable[[Message], asyncio.Future[Answer]], *, max_unanswered: int, draining: asyncio.Event
    ) -> None:
        self._begin = begin
        self._draining = draining
        self._line: ResponseQueue[asyncio.Future[Answer]] = ResponseQueue(max_unanswered)
        self._changed = asyncio.Event()

    @property
    def cut_short(self) -> bool:
        """Returns whether draining ended the stream before the messages did."""
        return self._line.cut_short

    async def run(self, messages: AsyncIterator[Message]) -> AsyncGenerator[Answer, None]:
        """Yields the answer to each message. Closing it cancels the work that is not answered."""
        line = self._line
        reader = asyncio.create_task(self._read(messages))
        stopper = asyncio.create_task(self._stop_on_drain(reader))
        try:
            while not line.over:
                if not line.due:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                answer = await line.due[0]
                line.due.popleft()
                self._changed.set()
                yield answer
            if line.error is not None:
                raise line.error
        finally:
            stopper.cancel()
            reader.cancel()
            for future in line.due:
                future.cancel()
            await asyncio.gather(reader, stopper, *line.due, return_exceptions=True)

    async def _read(self, messages: AsyncIterator[Message]) -> None:
        line, error = self._line, None
        try:
            async for message in messages:
                line.due.append(self._begin(message))
                self._changed.set()
                while line.full:
                    self._changed.clear()
                    await self._changed.wait()
        except asyncio.CancelledError:
            pass  # draining, or the stream is closed
        except BaseException as caught:  # noqa: BLE001 - raised again where the answers are read
            error = caught
        finally:
            line.end(error)
            self._changed.set()

    async def _stop_on_drain(self, reader: asyncio.Task[None]) -> None:
        await self._draining.wait()
        if self._line.drain():
            reader.cancel()
