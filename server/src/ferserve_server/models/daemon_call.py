"""Runs blocking work beside the event loop that can be abandoned, though it cannot be stopped."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def call_on_daemon_thread(  # noqa: C901 - one exchange, from both sides
    work: Callable[[], Result], on_late_result: Callable[[Result], None]
) -> Result:
    """Runs `work` on a thread of its own and returns its result. Cancel to abandon it.

    `asyncio.to_thread` is unsuitable: work that never ends would keep the process from ending.

    Args:
        work: Blocking; may raise anything.
        on_late_result: Called on a thread with a result that arrives after the call was cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    lock = threading.Lock()
    abandoned = False
    results: list[Result] = []

    def run() -> None:
        error: BaseException | None = None
        try:
            results.append(work())
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with lock:
            late = abandoned
            if not late:
                try:
                    loop.call_soon_threadsafe(settle, error)
                except RuntimeError:  # the loop is closed
                    late = True
        if late and results:
            on_late_result(results[0])

    def settle(error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(results[0])

    threading.Thread(target=run, name="load-version", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        with lock:
            abandoned = True
            late = list(results)
        if late:  # it arrived at the same moment
            threading.Thread(target=on_late_result, args=late, daemon=True).start()
        raise
