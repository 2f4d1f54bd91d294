"""Builds the models of a fake tier, with real batchers before it on a fake clock."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ferserve_server.domain.servable import ModelSpec
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.settings import BatcherSettings
from ferserve_server.upstream.executor import UpstreamExecutor, UpstreamServable
from ferserve_server.upstream.leases import ScorerKey, Scorers
from ferserve_server.upstream.models import UpstreamModels
from support.fake_clock import FakeClock
from support.fake_tier import FakeTier, net
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.domain.ports import Priority
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import ModelDescription

ANY = ModelSpec()


class TierBench:
    """Everything between a pipeline and a tier.

    Attributes:
        made: The keys of the batchers that were made, in order.
        closed: The keys of those that are gone.
        changes: How often something changed.
    """

    def __init__(self, tier: FakeTier, *, batches: int = 8, timeout_s: float = 30.0, **settings: Any) -> None:
        self.tier = tier
        self.clock = FakeClock()
        self.observer = Recorder()
        self.made: list[ScorerKey] = []
        self.closed: list[ScorerKey] = []
        self.changes = 0
        self._batches = batches
        self._timeout_s = timeout_s
        self._settings = BatcherSettings(**({"bucket_sizes": (4,)} | settings))
        self.scorers = Scorers(self._make, lambda key, _: self.closed.append(key))
        self.models = UpstreamModels(self.scorers, self.observer, self._changed)

    async def score(
        self, crops: Any, spec: ModelSpec = ANY, *, seconds: float | None = None, **more: Priority
    ) -> tuple[ScoredFaces, int]:
        """Has faces scored as one request does; returns them, and the version that the caller is reported."""
        deadline = None if seconds is None else self.clock.now() + seconds
        with self.models.acquire(spec, once=True) as lease:
            faces = await lease.scorer.score(crops, deadline=deadline, **more)
            return faces, lease.id.version

    def _make(self, key: ScorerKey, description: ModelDescription) -> Batcher:
        self.made.append(key)
        return Batcher(
            UpstreamServable(key.servable, description, self._batches),
            self._settings,
            clock=self.clock,
            observer=self.observer,
            make_runner=lambda servable, _, clock, listener: UpstreamExecutor(
                self.tier,
                key.spec,
                key.priority,
                thread_count=servable.executor_count,
                timeout_s=self._timeout_s,
                clock=clock,
                listener=listener,
                answered=self.models.answered,
                rejected=self.observer.rejected,
            ),
        )

    def _changed(self) -> None:
        self.changes += 1


@contextlib.asynccontextmanager
async def tier_bench(*versions: int, reported: Any = None, **settings: Any) -> AsyncIterator[TierBench]:
    """A bench with a reachable tier that has reported its models, `net(1)` unless said otherwise."""
    made = TierBench(FakeTier(*versions), **settings)
    made.models.reached(reachable=True)
    made.models.update_models(reported or (net(1),))
    try:
        yield made
    finally:
        made.tier.held.set()
        await made.scorers.close()
