"""Builds a batcher with an engine process that the test plays."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ferserve_server.engine.executor import EngineExecutor
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.settings import BatcherSettings
from support.batching import faces
from support.fake_clock import FakeClock, settle
from support.fake_engine import FakeEngine
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ferserve_server.engine.hang_detection import HangDetection


class Bench:
    """A batcher on an engine that the test plays."""

    def __init__(
        self, executor_count: int = 1, hang_detection: HangDetection | None = None, **settings: Any
    ) -> None:
        self.clock = FakeClock()
        self.observer = Recorder()
        self.engine = FakeEngine(executor_count)
        self.restarts = 0
        self.batcher = Batcher(
            self.engine,
            BatcherSettings(**{"bucket_sizes": (1, 2, 4, 8), **settings}),
            clock=self.clock,
            observer=self.observer,
            make_runner=lambda *args: EngineExecutor(
                *args, on_restart=self._count_restart, hang_detection=hang_detection
            ),
        )

    def _count_restart(self) -> None:
        self.restarts += 1

    async def submit(self, count: int, first: int = 0, **options: Any) -> asyncio.Task[Any]:
        """Sends a request on its way."""
        task = asyncio.create_task(self.batcher.score(faces(count, first), **options))
        await settle(3)  # the batch is cut when the turn is over in which it came
        return task

    async def until(self, condition: Callable[[], Any]) -> None:
        """Waits until a condition holds."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event here
                await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(*args: Any, **settings: Any) -> AsyncIterator[Bench]:
    """Makes a bench, and closes it."""
    made = Bench(*args, **settings)
    try:
        yield made
    finally:
        if made.batcher._runner._process is not None:
            made.engine.work()
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await made.batcher.close()
        for life in made.engine.lives:
            life.end()
