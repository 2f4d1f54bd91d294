"""Wiring of models: what loads, tries, batches and watches them, and the work that goes on beside."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.batching.batcher import Batcher
from ferserve_server.batching.settings import BatcherSettings
from ferserve_server.observability.canary_metrics import CanaryMetrics
from ferserve_server.observability.observers import InferenceMetrics, RoutingMetrics
from ferserve_server.observability.tee import InferenceTee
from ferserve_server.repository.aliases import Aliases, parse_aliases
from ferserve_server.repository.canary_verdict import CanaryRules
from ferserve_server.repository.manager import ModelManager
from ferserve_server.repository.preparation import GateLimits, VersionPreparer
from ferserve_server.repository.source import RepositorySource
from ferserve_server.repository.state_file import read_state, write_state
from ferserve_server.repository.trials import Trials
from ferserve_server.repository.version_policy import Latest, Policies, parse_policies
from ferserve_server.repository.watching import looks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.clock import MonotonicClock
    from ferserve_server.domain.ports import Loader, Servable
    from ferserve_server.observability.metrics import Metrics
    from ferserve_server.settings import Settings
    from ferserve_server.transport.compat.statistics import Statistics

log = structlog.get_logger(__name__)

_LONGEST_UNLOAD_S: Final = 10.0
"""Draining is over by then; unloading itself takes milliseconds."""

_LOOKS_PER_WINDOW: Final = 20
_LONGEST_BETWEEN_LOOKS_S: Final = 1.0
"""A canary is judged 20 times in its window, and every second in a long one: a bad one does harm until then."""


def build_manager(
    settings: Settings,
    loader: Loader,
    clock: MonotonicClock,
    metrics: Metrics,
    statistics: Statistics,
    on_change: Callable[[], None],
) -> ModelManager:
    """Makes the manager, its gate, its batchers and what they are watched by; nothing is loaded yet."""
    inference_metrics = InferenceMetrics(metrics)
    trials = _trials(settings, clock, metrics)
    observer = InferenceTee(inference_metrics, statistics, *([trials] if trials else []))
    batcher_settings = BatcherSettings(
        bucket_sizes=settings.bucket_sizes,
        max_queue_faces=settings.max_queue_faces,
        max_queue_bytes=settings.max_queue_mib * 2**20,
        max_queue_delay_s=settings.max_queue_delay_ms / 1e3,
        bulk_promotion_s=settings.bulk_promotion_ms / 1e3,
        execution_timeout_s=settings.execution_timeout_s,
        inline_s=settings.inline_ms / 1e3,
        hold_until_queued=settings.hold_until_queued,
    )

    def make_batcher(servable: Servable) -> Batcher:
        batcher = Batcher(servable, batcher_settings, clock=clock, observer=observer, on_health_change=on_change)
        inference_metrics.engine_started(servable.id, servable.description.labels)
        metrics.watch_engine(
            servable.id,
            depth_faces=lambda: batcher.depth_faces,
            oldest_age_s=lambda: batcher.oldest_age_s,
            healthy=lambda: batcher.healthy,
        )
        return batcher

    source = RepositorySource(settings.model_repo)
    state = read_state(settings.lifecycle_state_file)
    limits = GateLimits(settings.bucket_sizes, settings.golden_tolerance, settings.gate_latency_factor)
    return ModelManager(
        source,
        VersionPreparer(source, loader, limits),
        make_batcher,
        observer=observer,
        routing_observer=RoutingMetrics(metrics),
        default_model=settings.default_model,
        policies=Policies(Latest(settings.versions_per_model), parse_policies(settings.version_policy)),
        aliases=Aliases(parse_aliases(settings.alias), state.aliases),
        refused=state.refused,
        trials=trials,
        save_state=partial(write_state, settings.lifecycle_state_file),
        on_change=on_change,
    )


def _trials(settings: Settings, clock: MonotonicClock, metrics: Metrics) -> Trials | None:
    if not settings.canary_share:
        return None
    rules = CanaryRules(
        share=settings.canary_share,
        mode=settings.canary_mode,
        window_s=settings.canary_window_s,
        min_requests=settings.canary_min_requests,
        max_error_ratio_increase=settings.canary_max_error_ratio_increase,
        max_latency_factor=settings.canary_max_latency_factor,
        max_confidence_drop=settings.canary_max_confidence_drop,
        min_agreement=settings.canary_min_agreement,
        auto=settings.canary_auto,
    )
    return Trials(rules, clock=clock, observer=CanaryMetrics(metrics))


async def close_models(manager: ModelManager) -> None:
    """Unloads what can be unloaded; an engine that hangs would hold the exit up for its whole timeout."""
    try:
        async with asyncio.timeout(_LONGEST_UNLOAD_S):
            await manager.close()
    except TimeoutError:
        log.error("models not unloaded in time", timeout_s=_LONGEST_UNLOAD_S)  # noqa: TRY400 - no trace to show


async def keep_models(manager: ModelManager, settings: Settings) -> None:
    """Loads what is there, and keeps looking for more."""
    await manager.refresh()
    if not manager.default_ready:
        log.error(
            "the default model is not ready; put it into the model folder or name another with --default-model",
            model=settings.default_model,
            model_repo=str(settings.model_repo),
        )
    if settings.repository_poll_s:
        async with contextlib.aclosing(looks(settings.model_repo, settings.repository_poll_s)) as moments:
            await manager.watch(moments)


async def judge_canaries(manager: ModelManager, settings: Settings) -> None:
    """Looks at the figures of canaries again and again."""
    while True:
        await asyncio.sleep(min(settings.canary_window_s / _LOOKS_PER_WINDOW, _LONGEST_BETWEEN_LOOKS_S))
        try:
            await manager.judge_canaries()
        except Exception:
            log.exception("canaries not judged")
