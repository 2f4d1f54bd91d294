"""Tests background tasks that fail and are restarted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ferserve_server.runtime.background_tasks import background, supervise

if TYPE_CHECKING:
    import pytest


async def test_work_that_fails_is_counted_and_started_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, failures, runs = [], [], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def work() -> None:
        runs.append(1)
        if len(runs) <= 12:
            raise RuntimeError("broken")

    await supervise("models", work, failures.append)
    assert failures == ["models"] * 12
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


async def test_a_count_that_fails_does_not_end_the_work_either() -> None:
    runs = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("broken")

    await supervise("models", work, lambda _: 1 // 0)
    assert len(runs) == 2


async def test_background_work_ends_with_its_block() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with background("work", work):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait_for(ended.wait(), 20)
