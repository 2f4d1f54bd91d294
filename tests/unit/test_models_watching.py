"""Tests the scan times of the model folder."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.models.source import changes as looks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FOREVER_S = 1000.0
DEADLINE_S = 20.0


class Changes:
    """Tells of changes when asked to, or cannot."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()
        self.fault: Exception | None = None
        self.begun = 0
        self.ended = 0

    async def __call__(self, root: Path) -> AsyncIterator[object]:
        self.begun += 1
        try:
            if self.fault is not None:
                raise self.fault
            while True:
                await self.happened.wait()
                self.happened.clear()
                yield root
        finally:
            self.ended += 1


async def test_a_change_is_looked_at_at_once(tmp_path: Path) -> None:
    changes = Changes()
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(looks(tmp_path, FOREVER_S, changes)) as moments:
        for _ in range(3):
            changes.happened.set()
            await anext(moments)
    assert (changes.begun, changes.ended) == (1, 1)


async def test_without_events_it_looks_from_time_to_time(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(looks(tmp_path, 0.001, Changes())) as moments:
        for _ in range(3):
            await anext(moments)


async def test_where_watching_fails_it_looks_from_time_to_time_tells_so_once_and_tries_again(
    tmp_path: Path,
) -> None:
    changes = Changes()
    changes.fault = OSError("no inotify watches left")
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(looks(tmp_path, 0.001, changes)) as moments:
            for _ in range(4):
                await anext(moments)
    assert changes.begun > 1
    assert [(each["log_level"], each["error"]) for each in logs] == [
        ("warning", "OSError('no inotify watches left')")
    ]


async def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(looks(tmp_path / "none", 0.01)) as moments:
            for _ in range(3):
                await anext(moments)
    assert not logs


async def test_a_rename_into_a_real_folder_is_seen_without_waiting_for_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "repo" / "m").mkdir(parents=True)
    (tmp_path / "staged").mkdir()
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(looks(tmp_path / "repo", FOREVER_S)) as moments:
        look = asyncio.ensure_future(anext(moments))
        version = 0
        # The watch begins on a thread of its own, so what happens first may be before it.
        while not look.done():
            version += 1
            (tmp_path / "staged" / str(version)).mkdir()
            (tmp_path / "staged" / str(version)).rename(tmp_path / "repo" / "m" / str(version))
            await asyncio.wait([look], timeout=0.5)
        await look
