"""Tells when to look at the model folder: at once when something comes into it, and every so often anyway."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
import watchfiles

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

_STEP_MS: Final = 50
"""Changes that follow each other this closely are one."""

_LONGEST_GATHERING_MS: Final = 200
"""But no longer than this: a version is seen within half a second, also while another one is being copied."""


async def looks(
    root: Path,
    poll_interval_s: float,
    changes: Callable[[Path], AsyncIterator[object]] | None = None,
) -> AsyncGenerator[None, None]:
    """Yields whenever the folder is to be looked at. Close it to stop.

    Events only make a look come sooner: network drives and some containers' file systems have none, and looking
    every `poll_interval_s` finds what they do not tell. So it goes on when watching fails, and watching begins
    again with the next look.

    Args:
        root: The model folder, there or not.
        poll_interval_s: Longest time between two looks, in seconds, above 0.
        changes: Yields when something in a folder changes; raises when it cannot. The default asks the operating
            system (inotify, FSEvents, ...).
    """
    changed = asyncio.Event()
    watch: asyncio.Task[None] | None = None
    complained = False
    try:
        while True:
            if watch is not None and watch.done():
                error = watch.exception()
                # A folder that is not there yet is no fault; the next look begins anew.
                if not complained and not isinstance(error, FileNotFoundError):
                    complained = True
                    log.warning(
                        "no events of the model folder; looking at it from time to time",
                        poll_interval_s=poll_interval_s,
                        error=repr(error),
                    )
                watch = None
            if watch is None:
                watch = asyncio.ensure_future(_follow(root, changes or _system_changes, changed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(poll_interval_s):
                    await changed.wait()
            changed.clear()
            yield
    finally:
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watch


async def _follow(root: Path, changes: Callable[[Path], AsyncIterator[object]], changed: asyncio.Event) -> None:
    async for _ in changes(root):
        changed.set()


def _system_changes(root: Path) -> AsyncIterator[object]:
    return watchfiles.awatch(
        root, watch_filter=None, debounce=_LONGEST_GATHERING_MS, step=_STEP_MS, ignore_permission_denied=True
    )
