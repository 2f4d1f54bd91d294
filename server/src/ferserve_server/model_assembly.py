"""Wiring of the models: the gate, the batchers and the manager, as the settings want them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from ferserve_server.backends.engine.hang_detection import HangDetection
from ferserve_server.backends.engine.runner import EngineRunner
from ferserve_server.backends.engine.servable import EngineServable
from ferserve_server.backends.processor import describe_machine
from ferserve_server.batching.batcher import Batcher
from ferserve_server.batching.company import few_rows
from ferserve_server.batching.runner import ThreadRunner
from ferserve_server.batching.settings import BatcherSettings
from ferserve_server.domain.servable import Precision
from ferserve_server.observability.canary_metrics import CanaryMetrics
from ferserve_server.observability.observers import InferenceMetrics, RoutingMetrics
from ferserve_server.observability.tee import InferenceTee
from ferserve_server.repository.aliases import Aliases, parse_aliases
from ferserve_server.repository.buckets import BucketRules
from ferserve_server.repository.gate import GateLimits
from ferserve_server.repository.manager import ModelManager
from ferserve_server.repository.preparation import VersionPreparer
from ferserve_server.repository.source import RepositorySource
from ferserve_server.repository.state_file import StateFile
from ferserve_server.repository.trials import Trials
from ferserve_server.repository.tune_cache import TuneCache
from ferserve_server.repository.version_policy import Latest, Policies, parse_policies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferserve_server.batching.runner import RunnerListener, RunnerMaker
    from ferserve_server.clock import MonotonicClock
    from ferserve_server.domain.ports import Clock, Loader, Servable
    from ferserve_server.domain.servable import Tuning
    from ferserve_server.observability.metrics import Metrics
    from ferserve_server.settings import Settings
    from ferserve_server.transport.compat.statistics import Statistics


_STEPS_OF_A_LOAD: Final = 10
"""Longest steps that loading a version as a whole may take: reading, loading, and some of the first runs."""


def build_manager(
    settings: Settings,
    loader: Loader,
    clock: MonotonicClock,
    metrics: Metrics,
    statistics: Statistics,
    on_change: Callable[[], None],
) -> ModelManager:
    """Makes the manager of a server's models, with nothing loaded yet.

    Args:
        settings: The settings.
        loader: Loads versions.
        clock: The time.
        metrics: What batches, versions and aliases are counted in.
        statistics: What the Open Inference Protocol tells of batches.
        on_change: Called when a version, its engine's health, or the way of requests changed.
    """
    inference_metrics = InferenceMetrics(metrics)
    trials = _trials(settings, clock, metrics)
    observer = InferenceTee(inference_metrics, statistics, *([trials] if trials else []))
    batcher_settings = _batcher_settings(settings)

    def make_batcher(servable: Servable, tuning: Tuning) -> Batcher:
        few = few_rows(tuning.latency_s)
        chosen = replace(batcher_settings, bucket_sizes=tuning.bucket_sizes, few_rows=few)
        make_runner: RunnerMaker = ThreadRunner
        if isinstance(servable, EngineServable):
            chosen = replace(chosen, inline_s=0.0)  # nothing can run in place
            count_restart = metrics.watch_engine_process(servable.id, servable.engine.resident_bytes)
            hangs = HangDetection(settings.execution_timeout_s, tuning.latency_s)
            make_runner = partial(_engine_runner, servable, count_restart, hangs)
        batcher = Batcher(
            servable, chosen, clock=clock, observer=observer, on_health_change=on_change, make_runner=make_runner
        )
        inference_metrics.engine_started(servable.id, servable.description.labels, servable.precision)
        metrics.watch_engine(
            servable.id,
            depth_faces=lambda: batcher.depth_faces,
            oldest_age_s=lambda: batcher.oldest_age_s,
            healthy=lambda: batcher.healthy,
        )
        return batcher

    source = RepositorySource(settings.model_repo)
    rules = BucketRules(
        drop_unpaid=settings.tune == "auto",
        target_s=settings.target_p99_ms / 1e3,
        delay_s=settings.max_queue_delay_ms / 1e3,
    )
    state_file = StateFile(settings.lifecycle_state_file)
    state = state_file.read()
    cache = TuneCache(settings.tune_cache, _conditions(settings)) if settings.tune_cache else TuneCache()
    return ModelManager(
        source,
        VersionPreparer(
            source,
            loader,
            _gate_limits(settings),
            rules,
            cache,
            timeout_s=_STEPS_OF_A_LOAD * settings.load_step_timeout_s,
        ),
        make_batcher,
        observer=observer,
        routing_observer=_ToldRoutes(RoutingMetrics(metrics), on_change),
        default_model=settings.default_model,
        policies=Policies(Latest(settings.versions_per_model), parse_policies(settings.version_policy)),
        aliases=Aliases(parse_aliases(settings.alias), state.aliases),
        refused=state.refused,
        trials=trials,
        save_state=state_file.write,
        on_change=on_change,
    )


class _ToldRoutes:
    """Implements `domain.ports.RoutingObserver`: calls back after telling another one."""

    def __init__(self, observer: RoutingMetrics, on_change: Callable[[], None]) -> None:
        self._observer = observer
        self._on_change = on_change

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        self._observer.routed(model, aliases, serving_version)
        self._on_change()


def _engine_runner(
    servable: EngineServable,
    on_restart: Callable[[], None],
    hang_detection: HangDetection,
    _: Servable,
    bucket_sizes: Sequence[int],
    clock: Clock,
    listener: RunnerListener,
) -> EngineRunner:
    return EngineRunner(
        servable, bucket_sizes, clock, listener, on_restart=on_restart, hang_detection=hang_detection
    )


def _trials(settings: Settings, clock: MonotonicClock, metrics: Metrics) -> Trials | None:
    if settings.canaries.shortest_window_s is None:
        return None
    return Trials(settings.canaries, clock=clock, observer=CanaryMetrics(metrics))


def _batcher_settings(settings: Settings) -> BatcherSettings:
    return BatcherSettings(
        bucket_sizes=settings.bucket_sizes,
        max_queue_faces=settings.max_queue_faces,
        max_queue_bytes=settings.max_queue_mib * 2**20,
        max_queue_delay_s=settings.max_queue_delay_ms / 1e3,
        bulk_promotion_s=settings.bulk_promotion_ms / 1e3,
        execution_timeout_s=settings.execution_timeout_s,
        inline_s=settings.inline_ms / 1e3,
        hold_until_queued=settings.hold_until_queued,
    )


def _gate_limits(settings: Settings) -> GateLimits:
    return GateLimits(
        settings.bucket_sizes,
        settings.golden_tolerance,
        settings.gate_latency_factor,
        precision=None if settings.precision == "auto" else Precision(settings.precision),
        bfloat16_tolerance=settings.bfloat16_tolerance,
    )


def _conditions(settings: Settings) -> str:
    """What measured times hold for."""
    sizes = ",".join(map(str, settings.bucket_sizes))
    return (
        f"{describe_machine(settings.backend)}; precision {settings.precision}; bucket_sizes {sizes}; "
        f"intra_op_threads {settings.intra_op_threads}; executor_count {settings.executor_count}; "
        f"gpu_xla {settings.gpu_xla}"
    )
