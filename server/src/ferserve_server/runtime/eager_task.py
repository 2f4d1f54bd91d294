"""Runs coroutines without a Task.

A Task begins in the loop's next iteration, and costs more for every call. Here the coroutine runs at once up to
its first wait, so that calls that arrive together are all queued before the batcher runs, and continues when the
awaited future is done. Python 3.12 has Tasks that begin like that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine

log = structlog.get_logger(__name__)


class EagerTask:
    """Runs a coroutine eagerly. Event loop only.

    Its awaits must end in futures, as all of asyncio does except what needs the current Task: `asyncio.timeout`
    and `wait_for` alone, and they are not awaited below calls with crops.

    Args of the constructor:
        coroutine: Run at once.
        ended: Called when it has ended; before the constructor returns if it never waits.
        context: Context in which it runs; None: that of the task that continues it, which it must not change.
    """

    __slots__ = ("_cancelled", "_ended", "_future", "_reason", "_send", "_throw")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        ended: Callable[[], None],
        context: contextvars.Context | None = None,
    ) -> None:
        self._send: Callable[[None], Any] = coroutine.send
        self._throw: Callable[[BaseException], Any] = coroutine.throw
        if context is not None:
            self._send = lambda value: context.run(coroutine.send, value)
            self._throw = lambda error: context.run(coroutine.throw, error)
        self._ended = ended
        self._future: asyncio.Future[Any] | None = None
        self._cancelled = False
        self._reason: str | None = None
        self._step(None)

    def cancel(self, reason: str | None = None) -> None:
        """Cancels the awaited future, and so the coroutine, as `Task.cancel` does.

        Args:
            reason: Argument of the CancelledError.
        """
        self._reason = reason
        if self._future is None or not self._future.cancel(reason):
            self._cancelled = True

    def _step(self, future: asyncio.Future[Any] | None) -> None:
        self._future = None
        try:
            if self._cancelled:
                self._cancelled = False
                future = self._throw(asyncio.CancelledError(*(() if self._reason is None else (self._reason,))))
            else:
                future = self._send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end()
        except Exception:
            log.exception("call failed outside its handler")
            self._end()
        else:
            if future is None:  # asyncio.sleep(0)
                asyncio.get_running_loop().call_soon(self._step, None)
                return
            # Marks it as awaited and not yielded by mistake; the driver of a coroutine must reset it.
            future._asyncio_future_blocking = False  # noqa: SLF001 - how asyncio lets others drive
            future.add_done_callback(self._step)
            self._future = future

    def _end(self) -> None:
        # The awaiting object refers to this, and would so keep itself alive until garbage is collected.
        ended, self._ended = self._ended, _nothing
        ended()


def _nothing() -> None:
    """Does nothing; called when no callback is left."""
