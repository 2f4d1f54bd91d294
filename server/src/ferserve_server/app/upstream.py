"""Builds a server that runs no models: the channel to the model tier, and the batchers before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

from ferserve_server.runtime.background_tasks import background
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.settings import BatcherSettings
from ferserve_server.telemetry.recorder import InferenceTee
from ferserve_server.upstream.channel import UpstreamTls, open_channel
from ferserve_server.upstream.client import GrpcModelTier
from ferserve_server.upstream.executor import UpstreamExecutor, UpstreamServable
from ferserve_server.upstream.leases import Scorers
from ferserve_server.upstream.models import UpstreamModels, follow_tier
from ferserve_server.upstream.target import parse_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ferserve_server.app.overrides import Overrides
    from ferserve_server.config.settings import Settings
    from ferserve_server.config.upstream import UpstreamSettings
    from ferserve_server.domain.ports import Clock, FaceScorer, InferenceObserver, Servable
    from ferserve_server.domain.servable import ModelDescription, ServableId
    from ferserve_server.domain.trace import BatchTracer
    from ferserve_server.domain.upstream import ModelTier, TierAnswer
    from ferserve_server.interop.statistics import Statistics
    from ferserve_server.runtime.clock import MonotonicClock
    from ferserve_server.scheduler.execution import RunnerListener
    from ferserve_server.telemetry.recorder import PrometheusRecorder
    from ferserve_server.upstream.leases import ScorerKey

_MAX_CLOSE_S: Final = 5.0
"""Maximum time for closing, in seconds, because after draining the remaining calls have no client."""


@contextlib.asynccontextmanager
async def running_upstream(
    settings: Settings,
    clock: MonotonicClock,
    recorder: PrometheusRecorder,
    statistics: Statistics,
    on_change: Callable[[], None],
    overrides: Overrides,
    tracer: BatchTracer | None,
) -> AsyncIterator[UpstreamModels]:
    """Connects to the model tier and yields its models; on exit, everything sent is answered or has failed.

    Args:
        settings: The settings; `upstream` names the tier.
        clock: The time.
        recorder: Records batches, versions and aliases.
        statistics: Batch statistics of the Open Inference Protocol.
        on_change: Called when a version, the way of requests, or the tier's health changed.
        overrides: Rules that tests replace.
        tracer: Records batches with sampled faces; None: nothing is traced.

    Raises:
        UpstreamFilesError: A file for TLS cannot be read.
    """
    target = parse_target(settings.upstream.upstream)
    channel = open_channel(target, settings.upstream.upstream_attempts, _tls(settings.upstream))
    async with channel:
        tier = GrpcModelTier(channel)
        observer = InferenceTee(recorder, statistics)
        factory = _BatcherFactory(settings, tier, clock, recorder, observer, overrides, tracer)
        scorers = Scorers(factory.make_scorer, factory.closed)
        models = UpstreamModels(scorers, observer, on_change)
        factory.answered, factory.reachable = models.answered, lambda: models.reachable
        with background(
            "upstream",
            lambda: follow_tier(tier, models, settings.upstream.upstream_refresh_s),
            recorder.background_failed,
        ):
            try:
                yield models
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_MAX_CLOSE_S):
                        await scorers.close()


class _BatcherFactory:
    """Builds the batchers and exports their queues: one series per version, however many batchers lead to it."""

    def __init__(
        self,
        settings: Settings,
        tier: ModelTier,
        clock: Clock,
        recorder: PrometheusRecorder,
        observer: InferenceObserver,
        overrides: Overrides,
        tracer: BatchTracer | None,
    ) -> None:
        self._settings = settings
        self._overrides = overrides
        self._tier = tier
        self._clock = clock
        self._recorder = recorder
        self._observer = observer
        self._tracer = tracer
        self._batchers: dict[ServableId, dict[ScorerKey, Batcher]] = defaultdict(dict)
        self.answered: Callable[[TierAnswer], None] = lambda _: None
        self.reachable: Callable[[], bool] = lambda: False

    def make_scorer(self, key: ScorerKey, description: ModelDescription) -> Batcher:
        """Builds the batcher for requests that have `key` in common."""
        batcher = Batcher(
            UpstreamServable(key.servable, description, self._settings.upstream.upstream_batches),
            _batcher_settings(self._settings, self._overrides),
            clock=self._clock,
            observer=self._observer,
            make_runner=partial(self._make_runner, key),
            tracer=self._tracer,
        )
        self._recorder.engine_started(key.servable, description.labels)
        mine = self._batchers[key.servable]
        if not mine:
            self._recorder.watch_engine(
                key.servable,
                depth_faces=lambda: sum(each.depth_faces for each in list(mine.values())),
                oldest_age_s=lambda: max((each.oldest_age_s for each in list(mine.values())), default=0.0),
                healthy=lambda: self.reachable(),  # noqa: PLW0108 - set later
            )
        mine[key] = batcher
        return batcher

    def closed(self, key: ScorerKey, scorer: FaceScorer) -> None:
        """Removes a closed batcher; another may have its key by now."""
        mine = self._batchers[key.servable]
        if mine.get(key) is not scorer:
            return
        del mine[key]
        if not mine:
            del self._batchers[key.servable]
            self._recorder.forget_engine(key.servable)

    def _make_runner(
        self, key: ScorerKey, servable: Servable, _: Sequence[int], clock: Clock, listener: RunnerListener
    ) -> UpstreamExecutor:
        def answered(answer: TierAnswer) -> None:
            self._recorder.engine_started(answer.servable, answer.labels)
            self.answered(answer)

        return UpstreamExecutor(
            self._tier,
            key.spec,
            key.priority,
            thread_count=servable.executor_count,
            timeout_s=self._settings.engine.execution_timeout_s,
            clock=clock,
            listener=listener,
            answered=answered,
            rejected=self._observer.rejected,
        )


def _batcher_settings(settings: Settings, overrides: Overrides) -> BatcherSettings:
    return BatcherSettings(
        bucket_sizes=(settings.upstream.upstream_batch_faces,),
        max_queue_faces=settings.batching.max_queue_faces,
        max_queue_faces_per_caller=settings.batching.max_queue_faces_per_caller,
        max_queue_bytes=settings.batching.max_queue_mib * 2**20,
        max_queue_delay_s=settings.batching.max_queue_delay_ms / 1e3,
        bulk_promotion_s=settings.batching.bulk_promotion_ms / 1e3,
        # The runner times out first.
        execution_timeout_s=2 * settings.engine.execution_timeout_s,
        hold_until_queued=overrides.hold_until_queued,
    )


def _tls(settings: UpstreamSettings) -> UpstreamTls | None:
    authorities = settings.upstream_ca_file
    if authorities is None:
        return None
    return UpstreamTls(authorities, settings.upstream_cert_file, settings.upstream_key_file)
