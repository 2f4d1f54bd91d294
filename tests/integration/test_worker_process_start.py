"""Tests faults of worker processes before they listen."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Never

import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.app import primary_main
from ferserve_server.app.workers import running_workers
from ferserve_server.ipc.child_process import Child
from ferserve_server.workers import process
from ferserve_server.workers.process import WorkerPlan, WorkerProcess, WorkerStartError
from support.fake_models import publish_fake
from support.local_server import classes_of, packed
from support.worker_server import worker_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.ipc.channel import Channel

ENDS_AT_ONCE = "__future__"
"""A module of Python's that does nothing."""


class EndedChild(Child):
    """A process that has ended by the time its starter goes on, as when memory runs out."""

    def __init__(self, module: str, arguments: Sequence[str], channels: Sequence[Channel], *more: Any) -> None:
        super().__init__(module, arguments, channels, *more)
        assert self.wait(60)


def _no_lease(*_: object, **__: object) -> Never:
    raise AssertionError("nobody asks for a lease")


def _no_connection(_: object) -> Never:
    raise AssertionError("none was passed")


def _same(crops: CropBatch) -> CropBatch:
    return crops


async def test_one_that_ends_at_once_is_reported_as_ended_and_not_as_an_error_of_its_starter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "Child", EndedChild)
    plan = WorkerPlan(ENDS_AT_ONCE, {}, 4096, _no_lease, _same, _no_connection)
    front = WorkerProcess(plan, {}, {}, lambda: None)
    async with asyncio.timeout(60):
        await front.start({})
        with pytest.raises(WorkerStartError, match="ended before it listened"):
            await front.listening
        assert front.ended.is_set()
        assert await front.end() == "exit code 0"


async def test_a_version_that_was_loaded_while_they_started_is_known_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.asynccontextmanager
    async def overtaken(settings: Any, own: Any, models: Any, *others: Any, **named: Any) -> AsyncIterator[Any]:
        async with running_workers(settings, own, models, *others, **named) as running:
            await models.refresh()  # as a control call does
            yield running

    monkeypatch.setattr(primary_main, "running_workers", overtaken)
    publish_fake(tmp_path)
    async with worker_server(tmp_path) as server:
        answer = await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2)))
    assert classes_of(answer) == [1, 2]
