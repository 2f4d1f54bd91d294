"""Runs blocking work beside the event loop that can be abandoned, though it cannot be stopped."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def call_on_daemon_thread(  # noqa: C901 - one hand-over, from both sides
    work: Callable[[], Result], give_up: Callable[[Result], None]
) -> Result:
    """Runs `work` on a thread of its own and returns its result. Cancel to abandon it.

    `asyncio.to_thread` is unsuitable: work that never ends would keep the process from ending.

    Args:
        work: Blocking; may raise anything.
        give_up: Called on a thread with a result that arrives after the call was cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    lock = threading.Lock()
    given_up = False
    results: list[Result] = []

    def run() -> None:
        error: BaseException | None = None
        try:
            results.append(work())
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with lock:
            late = given_up
            if not late:
                try:
                    loop.call_soon_threadsafe(settle, error)
                except RuntimeError:  # the loop is closed
                    late = True
        if late and results:
            give_up(results[0])

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
            given_up = True
            late = list(results)
        if late:  # it arrived at the same moment
            threading.Thread(target=give_up, args=late, daemon=True).start()
        raise
