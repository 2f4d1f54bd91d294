"""Implements a model tier that gives scripted answers, without a network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import VersionNotFoundError
from ferserve_server.domain.servable import ModelSpec, ModelStatus, ServableId, ServableState, VersionStatus
from ferserve_server.domain.upstream import TierAnswer
from support.fake_models import DESCRIPTION
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Priority

NET = "fer-nano"


def net(
    *versions: int, aliases: dict[str, int] | None = None, name: str = NET, default: bool = True
) -> ModelStatus:
    """A model with these versions ready, of which the newest serves."""
    ready = tuple(
        VersionStatus(ServableId(name, version), ServableState.READY, DESCRIPTION)
        for version in sorted(versions, reverse=True)
    )
    return ModelStatus(name, default, ready, aliases=aliases or {}, serving_version=max(versions, default=None))


class FakeTier:
    """Implements `domain.upstream.ModelTier`.

    Attributes:
        calls: What was asked of `classify`: faces, model, priority, seconds.
        versions: Those that answer the next batches which name none, in order; the last one goes on.
        rejections: What the next batches are rejected with.
        not_found: Versions that are not found where they are named.
        labels: Classes of versions that have others than usual.
        held: Answers wait while this is not set.
        reported: What `models` tells, or raises.
        reach: What `reachable` tells, when it is put there.
        cut_rows: Rows that are missing from every answer.
    """

    def __init__(self, *versions: int) -> None:
        self.calls: list[tuple[int, ModelSpec, Priority, float]] = []
        self.versions = list(versions or [1])
        self.rejections: list[Exception] = []
        self.not_found: set[int] = set()
        self.labels: dict[int, tuple[str, ...]] = {}
        self.held = asyncio.Event()
        self.held.set()
        self.reported: list[tuple[ModelStatus, ...] | Exception] = []
        self.reach: asyncio.Queue[bool] = asyncio.Queue()
        self.cut_rows = 0

    async def classify(
        self, crops: CropBatch, spec: ModelSpec, priority: Priority, timeout_s: float
    ) -> TierAnswer:
        self.calls.append((len(crops), spec, priority, timeout_s))
        chosen = spec.version or (self.versions.pop(0) if len(self.versions) > 1 else self.versions[0])
        await self.held.wait()
        if self.rejections:
            raise self.rejections.pop(0)
        if spec.version in self.not_found:
            raise VersionNotFoundError(spec.name, chosen)
        labels = self.labels.get(chosen, LABELS)
        scores = fake_scores(crops, len(labels))[self.cut_rows :]
        return TierAnswer(scores, labels, ServableId(spec.name, chosen))

    async def models(self) -> tuple[ModelStatus, ...]:
        reported = self.reported.pop(0) if len(self.reported) > 1 else self.reported[0]
        if isinstance(reported, Exception):
            raise reported
        return reported

    async def reachable(self) -> AsyncIterator[bool]:
        while True:
            yield await self.reach.get()
