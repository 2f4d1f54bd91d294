"""Coroutines that run without a Task.

A Task begins at the loop's next turn, and costs more for every call. Here the coroutine runs at once as far
as it comes, so that calls which arrive together are all in the batcher's queue before it is looked at, and goes on
when what it waits for is done. Python 3.12 has Tasks that begin like that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = structlog.get_logger(__name__)


class EagerTask:
    """Runs a coroutine. Event loop only.

    What it awaits must end in futures, as all of asyncio does but what asks for the current Task: that is
    `asyncio.timeout` and `wait_for` alone, and they are not awaited below calls with crops.

    Args of the constructor:
        coroutine: What is run, at once.
        ended: Called when it has ended; before the constructor returns if it never waits.
    """

    __slots__ = ("_cancelled", "_coroutine", "_ended", "_future")

    def __init__(self, coroutine: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._future: asyncio.Future[Any] | None = None
        self._cancelled = False
        self._step(None)

    def cancel(self) -> None:
        """Cancels what it waits for, and so the coroutine, as `Task.cancel` does."""
        if self._future is None or not self._future.cancel():
            self._cancelled = True

    def _step(self, future: asyncio.Future[Any] | None) -> None:
        self._future = None
        try:
            if self._cancelled:
                self._cancelled = False
                future = self._coroutine.throw(asyncio.CancelledError())
            else:
                future = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end()
        except Exception:
            log.exception("call failed outside its handler")
            self._end()
        else:
            if future is None:  # asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(self._step, None)
                return
            # Says that it was awaited and not yielded by mistake; whoever drives coroutines takes it back.
            future._asyncio_future_blocking = False  # noqa: SLF001 - how asyncio lets others drive
            future.add_done_callback(self._step)
            self._future = future

    def _end(self) -> None:
        # Whoever waits for the end refers to this, and would so keep itself alive until garbage is collected.
        ended, self._ended = self._ended, _nothing
        ended()


def _nothing() -> None:
    """Called when there is no more to tell."""
