"""Builds canary versions, and the traffic that exercises them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.ports import DispatchReason, ExecutedBatch
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.models.leases import LiveVersion
from support.fake_models import DESCRIPTION, GOLDEN_FACES
from support.pipeline_fakes import FakeScorer

if TYPE_CHECKING:
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.models.canary.traffic_split import Canaries
    from support.manager_bench import Shop

ANY = ModelSpec()


class TunedScorer(FakeScorer):
    """Is as sure as reported, and finds another class than the truth where reported to.

    Attributes:
        confidence: Probability of the most probable class.
        shift: By how many classes its answers are off.
    """

    confidence = 0.7
    shift = 0

    async def score(self, crops, *, deadline=None, **more) -> ScoredFaces:
        found = await super().score(crops, deadline=deadline, **more)
        top = found.scores.argmax(axis=1)
        found.scores[:] = (1 - self.confidence) / 6
        found.scores[np.arange(len(top)), (top + self.shift) % 7] = self.confidence
        return found


def live_version(version: int, scorer: FakeScorer | None = None) -> LiveVersion:
    """An active version of a fake engine."""
    servable = FakeServable(ServableId("fer-nano", version), DESCRIPTION)
    return LiveVersion(servable, scorer or TunedScorer())


async def ask(shop: Shop, count: int = 1, spec: ModelSpec = ANY) -> list[int]:
    """Has faces scored, and tells which version answered each request."""
    versions = []
    for _ in range(count):
        with shop.manager.acquire(spec) as lease:
            await lease.scorer.score(GOLDEN_FACES)
            versions.append(lease.id.version)
    return versions


def time_batches(canaries: Canaries, version: int, batch_s: float, count: int = 20) -> None:
    """Tells of batches that took so long, give or take a twentieth."""
    for number in range(count):
        servable = ServableId("fer-nano", version)
        inference_s = batch_s * (1.05 if number % 2 else 0.95)
        scores = np.zeros((3, 7), np.float32)
        canaries.batch_executed(ExecutedBatch(servable, DispatchReason.FULL, 4, 0.0, inference_s, scores))
