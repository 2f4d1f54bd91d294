"""The messages of a call until its handler asks for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.errors import FerserveError


class Inbox:
    """An asynchronous iterator for one reader. Event loop only.

    Args of the constructor:
        release: Is given the bytes of each message that the reader has, so that the peer may send more.
    """

    def __init__(self, release: Callable[[bytes], None]) -> None:
        self._release = release
        self._messages: deque[tuple[Any, bytes]] = deque()
        self._ended = False
        self._error: FerserveError | None = None
        self._changed = asyncio.Event()

    def put(self, request: Any, message: bytes) -> None:  # noqa: ANN401 - any message
        """Adds a message: what it says, and its bytes."""
        self._messages.append((request, message))
        self._changed.set()

    def end(self, error: FerserveError | None = None) -> None:
        """Notes that no message follows, and why if the next one cannot be taken."""
        self._ended, self._error = True, error
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - any message
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        request, message = self._messages.popleft()
        self._release(message)
        return request
