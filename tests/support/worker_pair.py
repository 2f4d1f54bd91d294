"""Joins a worker process's view of the models and the primary process's side of it without processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.servable import ModelSpec, ModelStatus, Precision, ServableState, Tuning, VersionStatus
from ferserve_server.ipc.shared_memory import BlockAllocator
from ferserve_server.models.catalog import ServiceState
from ferserve_server.runtime.clock import MonotonicClock
from ferserve_server.workers.handler import WorkerHandler
from ferserve_server.workers.json_codec import write_value
from ferserve_server.workers.remote_models import RemoteModels
from support.fake_models import DESCRIPTION
from support.pipeline_fakes import SERVABLE, FakeModels, FakeScorer

if TYPE_CHECKING:
    from ferserve_server.domain.canary import CanaryReport
    from ferserve_server.domain.prediction import ScoredFaces

FACE_BYTES = 48 * 48
ANY = ModelSpec()


class BlockingScorer(FakeScorer):
    """Scores while `unblocked` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.unblocked = asyncio.Event()
        self.cancelled = 0

    async def score(self, crops, **terms) -> ScoredFaces:
        self.taken.append(len(crops))
        try:
            await self.unblocked.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().score(crops, **terms)


class Pair:
    """Both sides; messages take one event-loop iteration each way.

    Args of the constructor:
        scorer: What the primary process has.
        face_room: Room of the shared memory, in faces.
        largest_batch: That of the version, in faces; 0: not reported, so that requests go one by one.

    Attributes:
        messages: What the worker process has sent.
        held: Whether the primary process does not get it.
    """

    def __init__(self, scorer: FakeScorer, *, face_room: int = 100, largest_batch: int = 0) -> None:
        self.models = FakeModels(scorer)
        self.memory = np.zeros(face_room * FACE_BYTES, np.uint8)
        self.allocator = BlockAllocator(len(self.memory))
        self.rejected: list[str] = []
        self.cancelled: list[str] = []
        self.messages: list[bytes] = []
        self.held = False
        loop = asyncio.get_running_loop()
        self.handler = WorkerHandler(
            self.models.acquire,
            self.memory,
            lambda message: loop.call_soon(self.remote.score_message, message) and None,
            resize=lambda crops: np.full((len(crops), 48, 48, 1), crops[0, 0, 0, 0], np.uint8),
        )

        def send_to_primary(message: bytes) -> None:
            self.messages.append(message)
            if not self.held:
                loop.call_soon(self.handler.score_message, message)

        self.remote = RemoteModels(
            self.memory,
            self.allocator,
            post=send_to_primary,
            call=self._call,
            clock=MonotonicClock(),
            rejected=self.rejected.append,
            cancelled=self.cancelled.append,
        )
        self.report_models(largest_batch)

    def report_models(self, largest_batch: int, canary: CanaryReport | None = None) -> None:
        """Tells the worker process of the one version that there is."""
        tuning = Tuning(Precision.FLOAT32, (1, largest_batch)) if largest_batch else None
        version = VersionStatus(SERVABLE, ServableState.READY, DESCRIPTION, tuning=tuning)
        model = ModelStatus(SERVABLE.name, True, (version,), serving_version=SERVABLE.version, canary=canary)
        self.remote.apply_state(write_value(ServiceState(SERVABLE.name, True, (model,))))

    async def _call(self, name: str, value: object) -> object:
        return [name, value]

    async def score(self, crops, spec: ModelSpec = ANY, **options) -> ScoredFaces:
        with self.remote.acquire(spec, once=True) as lease:
            return await lease.scorer.score(crops, **options)


async def until(condition) -> None:
    """Gives the event loop turns until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")
