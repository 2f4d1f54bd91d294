"""Tests batches on threads of this process, and the end of those threads."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any

from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.servable import InputSpec, ModelDescription, ServableId
from ferserve_server.scheduler.execution import ThreadRunner
from support.fake_clock import FakeClock

if TYPE_CHECKING:
    import pytest

DESCRIPTION = ModelDescription(("calm", "angry"), InputSpec("faces", 48, 48))


class Unclosable(FakeServable):
    """A version that fails to give its memory back."""

    def close(self) -> None:
        """Fails."""
        raise OSError("no memory to give back")


class NobodyListens:
    """Of `batching.execution.RunnerListener`."""

    def on_batch_done(self, outcome: object) -> None:
        """Not called here."""

    def on_runner_change(self) -> None:
        """Not called here."""


async def test_a_version_that_cannot_be_closed_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", reported.put)
    servable = Unclosable(ServableId("fer", 1), DESCRIPTION, executor_count=2)
    runner = ThreadRunner(servable, [1, 8], FakeClock(), NobodyListens())
    runner.close()
    async with asyncio.timeout(30):
        await asyncio.to_thread(runner.join, 3600)
        raised = await asyncio.to_thread(reported.get)
    assert str(raised.exc_value) == "no memory to give back"
