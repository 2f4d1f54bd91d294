"""Answers the messages of a stream in the order they came, with a bound on those unanswered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

Message = TypeVar("Message")
Answer = TypeVar("Answer")


class OrderedAnswers(Generic[Message, Answer]):
    """Reads messages, begins work on each, and yields the answers in order.

    Reading stops while `max_unanswered` answers are due, so that a sender who does not read is held back by the
    transport's flow control. It ends when the messages end or `draining` is set; what was taken is answered first.

    Args of the constructor:
        begin: Starts the work on a message and returns where its answer will be. Must not block. An exception
            that it raises ends the stream, after everything taken before is answered.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.

    Attributes:
        cut_short: Whether draining ended it before the messages did.
    """

    def __init__(
        self, begin: Callable[[Message], asyncio.Future[Answer]], *, max_unanswered: int, draining: asyncio.Event
    ) -> None:
        self._begin = begin
        self._max_unanswered = max_unanswered
        self._draining = draining
        self.cut_short = False
        self._due: deque[asyncio.Future[Answer]] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    async def run(self, messages: AsyncIterator[Message]) -> AsyncGenerator[Answer, None]:
        """Yields the answer to each message. Closing it cancels the work that is not answered."""
        reader = asyncio.create_task(self._read(messages))
        stopper = asyncio.create_task(self._stop_on_drain(reader))
        try:
            while not (self._ended and not self._due):
                if not self._due:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                answer = await self._due[0]
                self._due.popleft()
                self._changed.set()
                yield answer
            if self._error is not None:
                raise self._error
        finally:
            stopper.cancel()
            reader.cancel()
            for future in self._due:
                future.cancel()
            await asyncio.gather(reader, stopper, *self._due, return_exceptions=True)

    async def _read(self, messages: AsyncIterator[Message]) -> None:
        try:
            async for message in messages:
                self._due.append(self._begin(message))
                self._changed.set()
                while len(self._due) >= self._max_unanswered:
                    self._changed.clear()
                    await self._changed.wait()
        except asyncio.CancelledError:
            pass  # draining, or the stream is closed
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            self._error = error
        finally:
            self._ended = True
            self._changed.set()

    async def _stop_on_drain(self, reader: asyncio.Task[None]) -> None:
        await self._draining.wait()
        if not self._ended:
            self.cut_short = True
            reader.cancel()
