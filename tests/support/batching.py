"""Builds a batcher on a fake clock over a servable that waits on command, for the batcher's tests."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.servable import InputSpec, ModelDescription, ServableId
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.settings import BatcherSettings
from support.fake_clock import FakeClock
from support.model_factory import LABELS
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DESCRIPTION = ModelDescription(LABELS, InputSpec("faces", 48, 48))
POISON = 255
"""First pixel of a face that makes the servable raise."""


def faces(count: int, first: int = 0) -> np.ndarray:
    """Different faces, uint8 [count, 48, 48, 1]; face i is filled with `first + i`."""
    crops = np.zeros((count, 48, 48, 1), np.uint8)
    crops += (np.arange(first, first + count) % 200).astype(np.uint8)[:, None, None, None]
    return crops


def poison() -> np.ndarray:
    """One face that makes the servable raise, uint8 [1, 48, 48, 1]."""
    crops = faces(1)
    crops[0, 0, 0, 0] = POISON
    return crops


class Blocker:
    """Holds executions until opened. `entered` counts those that came to it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, crops: np.ndarray) -> None:
        self.entered.release()
        assert self._open.wait(30), "nobody opened the blocker"

    def open(self) -> None:
        self._open.set()

    async def wait_entered(self) -> None:
        """Returns when an execution has reached the blocker."""
        import asyncio  # noqa: PLC0415 - only here

        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


def raise_on_poison(crops: np.ndarray) -> None:
    """Raises if a face of the batch is poisonous."""
    if (crops[:, 0, 0, 0] == POISON).any():
        raise ArithmeticError("poison")


class Bench:
    """A batcher with everything that it talks to."""

    def __init__(
        self,
        before_predict: Callable[[np.ndarray], None] = lambda _: None,
        executor_count: int = 1,
        **settings: object,
    ) -> None:
        self.clock = FakeClock()
        self.observer = Recorder()
        self.health_changes: list[bool] = []
        self.servable = FakeServable(
            ServableId("net", 1), DESCRIPTION, executor_count=executor_count, before_predict=before_predict
        )
        self.batcher = Batcher(
            self.servable,
            BatcherSettings(**{"bucket_sizes": (1, 2, 4, 8), **settings}),
            clock=self.clock,
            observer=self.observer,
            on_health_change=lambda: self.health_changes.append(self.batcher.healthy),
        )


@asynccontextmanager
async def bench(*args, **kwargs) -> AsyncIterator[Bench]:
    """Makes a bench and closes its batcher."""
    made = Bench(*args, **kwargs)
    try:
        yield made
    finally:
        await made.batcher.close()
