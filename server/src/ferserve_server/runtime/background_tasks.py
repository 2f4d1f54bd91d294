"""Work that goes on beside a block of code, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def background(work: Coroutine[None, None, None]) -> Iterator[None]:
    """Runs a coroutine beside the block; it ends with it. What goes wrong in it is logged."""

    async def guarded() -> None:
        try:
            await work
        except Exception:
            log.exception("background work failed")

    task = asyncio.get_running_loop().create_task(guarded())
    task.add_done_callback(lambda _: work.close())  # in case the block was left before it began
    try:
        yield
    finally:
        task.cancel()
