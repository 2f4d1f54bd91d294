"""Scans the model folder and watches it for changes.

What lies in the repository: `<root>/<model>/<version>/`, TensorFlow Serving's layout.

Tells when to look at the model folder: at once when something comes into it, and every so often anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
import watchfiles

from ferserve_server.domain.names import MODEL_NAME, VERSION
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import MANIFEST_PATH

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from pathlib import Path


class RepositorySource:
    """Tells which versions there are. Stateless; any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def scan(self) -> Mapping[ServableId, float]:
        """Every version with a manifest, and when its manifest was last changed, in seconds since 1970.

        A version without a manifest is one that is still being written, and does not count. A repository that is
        not there has no versions.
        """
        found: dict[ServableId, float] = {}
        for model in self._folders(self.root, MODEL_NAME):
            for version in self._folders(model, VERSION):
                try:
                    changed_at = (version / MANIFEST_PATH).stat().st_mtime
                except OSError:
                    continue
                found[ServableId(model.name, int(version.name))] = changed_at
        return found

    def directory(self, servable_id: ServableId) -> Path:
        """Where a version lies."""
        return self.root / servable_id.name / str(servable_id.version)

    @staticmethod
    def _folders(parent: Path, name: re.Pattern[str]) -> list[Path]:
        try:
            return sorted(path for path in parent.iterdir() if name.fullmatch(path.name) and path.is_dir())
        except OSError:
            return []


log = structlog.get_logger(__name__)

_STEP_MS: Final = 50
"""Changes that follow each other this closely are one."""

_LONGEST_GATHERING_MS: Final = 200
"""But no longer than this: a version is seen within half a second, also while another one is being copied."""


async def changes(
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
        poll_interval_s: Longest time between two changes, in seconds, above 0.
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
