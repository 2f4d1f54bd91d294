"""Runs work beside a block of code, restarts it when it fails, and ends it with the block."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

log = structlog.get_logger(__name__)

_RESTART_RANGE_S: Final = (0.1, 30.0)
"""First and maximum pause before failed work is restarted, in seconds; doubled each time."""

_STABLE_AFTER_S: Final = 60.0
"""Minimum run time after which failed work restarts after the first pause, in seconds."""


async def supervise(
    name: str, make_work: Callable[[], Coroutine[None, None, None]], count_failure: Callable[[str], None]
) -> None:
    """Runs a coroutine until it returns, and again after a pause whenever it raises. Cancel to stop.

    Args:
        name: Name of the work, for the log and the count.
        make_work: Makes the coroutine; called for each run.
        count_failure: Called with the name at each failure.
    """
    loop = asyncio.get_running_loop()
    pause_s = _RESTART_RANGE_S[0]
    while True:
        started_at = loop.time()
        try:
            await make_work()
        except Exception:
            if loop.time() - started_at > _STABLE_AFTER_S:
                pause_s = _RESTART_RANGE_S[0]
            log.exception("background work failed; it is started again", work=name, restart_in_s=pause_s)
            with contextlib.suppress(Exception):
                count_failure(name)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _RESTART_RANGE_S[1])


@contextlib.contextmanager
def background(
    name: str,
    make_work: Callable[[], Coroutine[None, None, None]],
    count_failure: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Supervises a coroutine beside the block; it ends with it. See `supervise` for the arguments."""
    task = asyncio.get_running_loop().create_task(supervise(name, make_work, count_failure))
    try:
        yield
    finally:
        task.cancel()
