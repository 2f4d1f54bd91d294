"""Builds the model registry, its loaders and schedulers, and runs the background work on models.

Loaders load versions into this process or into engine processes. This module imports little, because the first
engine process is started from it and comes up while the rest is imported. Background work reloads models, judges
canaries and unloads everything at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.backends.processor import describe_machine
from ferserve_server.backends.selection import make_loader
from ferserve_server.domain.servable import Precision
from ferserve_server.engine.executor import EngineExecutor
from ferserve_server.engine.hang_detection import HangDetection
from ferserve_server.engine.loader import EngineLoader, EngineServable
from ferserve_server.engine.process import EngineOptions
from ferserve_server.engine.step_limits import StepLimits
from ferserve_server.models.aliases import Aliases, parse_aliases
from ferserve_server.models.canary.traffic_split import Canaries
from ferserve_server.models.preparation import VersionPreparer
from ferserve_server.models.registry import ModelManager
from ferserve_server.models.source import RepositorySource, changes
from ferserve_server.models.state_file import StateFile
from ferserve_server.models.tuning import BucketRules
from ferserve_server.models.tuning_cache import TuneCache
from ferserve_server.models.validation import ValidationLimits
from ferserve_server.models.version_policy import Latest, Policies, parse_policies
from ferserve_server.runtime.background_tasks import background
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.execution import ThreadRunner
from ferserve_server.scheduler.fixed_cost import min_concurrent_rows
from ferserve_server.scheduler.settings import BatcherSettings
from ferserve_server.telemetry.logging import chosen_format
from ferserve_server.telemetry.recorder import InferenceTee

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ferserve_server.app.overrides import Overrides
    from ferserve_server.config.settings import Settings
    from ferserve_server.domain.ports import Clock, Loader, Servable
    from ferserve_server.domain.servable import Tuning
    from ferserve_server.domain.trace import BatchTracer
    from ferserve_server.interop.statistics import Statistics
    from ferserve_server.models.signature import SignatureVerifier
    from ferserve_server.runtime.clock import MonotonicClock
    from ferserve_server.scheduler.execution import RunnerListener, RunnerMaker
    from ferserve_server.telemetry.recorder import PrometheusRecorder


def default_loader(settings: Settings) -> Loader:
    """Builds the loader that loads versions into this process.

    Raises:
        BackendMissingError: Its package is not installed.
    """
    return make_loader(_engine_options(settings))


@contextlib.contextmanager
def opened_loader(settings: Settings) -> Iterator[Loader | None]:
    """Opens the loader that the settings select; on exit, everything started for it has ended.

    Yields:
        The loader; None if the models run in a model tier.

    Raises:
        BackendMissingError: The engine's package is not installed.
        OSError: The system cannot start another process.
    """
    if settings.upstream.upstream:
        yield None
        return
    if settings.engine.engine == "thread":
        yield default_loader(settings)
        return
    default_loader(settings)  # rejects early what no engine process could use
    limits = StepLimits(
        settings.models.load_step_timeout_s,
        settings.models.load_memory_mib * 2**20,
        max(1, settings.engine.intra_op_threads),
    )
    made = EngineLoader(
        _engine_options(settings),
        settings.batching.bucket_sizes[-1],
        limits,
        standby_count=settings.engine.standby_engines,
    )
    with contextlib.closing(made) as loader:
        loader.start()
        yield loader


def stop_loading(loader: Loader | None) -> None:
    """Ends the running load in an engine process and all later ones, without waiting. Any thread.

    A thread of this process that loads cannot be ended; it ends with the process.
    """
    if isinstance(loader, EngineLoader):
        loader.stop_loading()


def _engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        model_repo=settings.models.model_repo,
        backend=settings.engine.backend,
        executor_count=settings.engine.executor_count,
        intra_op_threads=settings.engine.intra_op_threads,
        gpu_memory_limit_mib=settings.engine.gpu_memory_limit_mib,
        gpu_xla=settings.engine.gpu_xla,
        log_level=settings.log.log_level,
        log_format=chosen_format(settings.log.log_format),
    )


_LOAD_TIMEOUT_STEPS: Final = 10
"""Maximum time for loading a version, in step limits, because it reads, loads, and does some of the first runs."""


def build_manager(  # noqa: PLR0913 - its collaborators, each a port or a value
    settings: Settings,
    loader: Loader,
    clock: MonotonicClock,
    recorder: PrometheusRecorder,
    statistics: Statistics,
    on_change: Callable[[], None],
    overrides: Overrides,
    *,
    tracer: BatchTracer | None,
) -> ModelManager:
    """Builds the model registry of a server, with nothing loaded yet.

    Args:
        settings: The settings.
        loader: Loads versions.
        clock: The time.
        recorder: Records batches, versions and aliases.
        statistics: Batch statistics of the Open Inference Protocol.
        on_change: Called when a version, its engine's health, or the way of requests changed.
        overrides: Rules that tests replace.
        tracer: Records batches with sampled faces; None: nothing is traced.

    Raises:
        ModelKeyError: A public key of a signer cannot be used.
    """
    canaries = _build_canaries(settings, clock, recorder)
    observer = InferenceTee(recorder, statistics, *([canaries] if canaries else []))
    batcher_settings = _batcher_settings(settings, overrides)

    def make_batcher(servable: Servable, tuning: Tuning) -> Batcher:
        chosen = replace(
            batcher_settings,
            bucket_sizes=tuning.bucket_sizes,
            min_concurrent_rows=min_concurrent_rows(tuning.latency_s),
        )
        make_runner: RunnerMaker = ThreadRunner
        if isinstance(servable, EngineServable):
            count_restart = recorder.watch_engine_process(servable.id, servable.engine.resident_bytes)
            hangs = HangDetection(settings.engine.execution_timeout_s, tuning.latency_s)
            make_runner = partial(_engine_runner, servable, count_restart, hangs)
        batcher = Batcher(
            servable,
            chosen,
            clock=clock,
            observer=observer,
            on_health_change=on_change,
            make_runner=make_runner,
            tracer=tracer,
        )
        recorder.engine_started(servable.id, servable.description.labels, servable.precision)
        recorder.watch_engine(
            servable.id,
            depth_faces=lambda: batcher.depth_faces,
            oldest_age_s=lambda: batcher.oldest_age_s,
            healthy=lambda: batcher.healthy,
        )
        return batcher

    source = RepositorySource(settings.models.model_repo)
    rules = BucketRules(
        drop_inefficient=settings.batching.tune == "auto",
        target_s=settings.batching.target_p99_ms / 1e3,
        delay_s=settings.batching.max_queue_delay_ms / 1e3,
    )
    state_file = StateFile(settings.models.lifecycle_state_file)
    state = state_file.read()
    cache = (
        TuneCache(settings.batching.tune_cache, _tuning_conditions(settings))
        if settings.batching.tune_cache
        else TuneCache()
    )
    return ModelManager(
        source,
        VersionPreparer(
            source,
            loader,
            _validation_limits(settings),
            rules,
            cache,
            signatures=_signature_verifier(settings.models.model_key),
            timeout_s=_LOAD_TIMEOUT_STEPS * settings.models.load_step_timeout_s,
        ),
        make_batcher,
        observer=observer,
        default_model=settings.models.default_model,
        policies=Policies(
            Latest(settings.models.versions_per_model), parse_policies(settings.models.version_policy)
        ),
        aliases=Aliases(parse_aliases(settings.models.alias), state.aliases),
        rejected=state.rejected,
        canaries=canaries,
        save_state=state_file.write,
        on_change=on_change,
    )


def _signature_verifier(key_paths: Sequence[Path]) -> SignatureVerifier | None:
    """Returns what verifies signatures, or None if versions need none.

    Raises:
        ModelKeyError: A key cannot be used.
    """
    if not key_paths:
        return None
    # Importing the cryptography takes 40 ms of each start.
    from ferserve_server.models.signature import SignatureVerifier  # noqa: PLC0415

    return SignatureVerifier(key_paths)


def _engine_runner(
    servable: EngineServable,
    on_restart: Callable[[], None],
    hang_detection: HangDetection,
    _: Servable,
    bucket_sizes: Sequence[int],
    clock: Clock,
    listener: RunnerListener,
) -> EngineExecutor:
    return EngineExecutor(
        servable, bucket_sizes, clock, listener, on_restart=on_restart, hang_detection=hang_detection
    )


def _build_canaries(settings: Settings, clock: MonotonicClock, recorder: PrometheusRecorder) -> Canaries | None:
    if settings.canary.policies.shortest_window_s is None:
        return None
    return Canaries(settings.canary.policies, clock=clock, recorder=recorder)


def _batcher_settings(settings: Settings, overrides: Overrides) -> BatcherSettings:
    return BatcherSettings(
        bucket_sizes=settings.batching.bucket_sizes,
        max_queue_faces=settings.batching.max_queue_faces,
        max_queue_faces_per_caller=settings.batching.max_queue_faces_per_caller,
        max_queue_bytes=settings.batching.max_queue_mib * 2**20,
        max_queue_delay_s=settings.batching.max_queue_delay_ms / 1e3,
        bulk_promotion_s=settings.batching.bulk_promotion_ms / 1e3,
        execution_timeout_s=settings.engine.execution_timeout_s,
        hold_until_queued=overrides.hold_until_queued,
    )


def _validation_limits(settings: Settings) -> ValidationLimits:
    return ValidationLimits(
        settings.batching.bucket_sizes,
        settings.models.golden_tolerance,
        settings.models.validation_latency_factor,
        precision=None if settings.engine.precision == "auto" else Precision(settings.engine.precision),
        bfloat16_tolerance=settings.models.bfloat16_tolerance,
    )


def _tuning_conditions(settings: Settings) -> str:
    """Describes the conditions under which measured times hold."""
    engine, sizes = settings.engine, ",".join(map(str, settings.batching.bucket_sizes))
    return (
        f"{describe_machine(engine.backend)}; precision {engine.precision}; bucket_sizes {sizes}; "
        f"intra_op_threads {engine.intra_op_threads}; executor_count {engine.executor_count}; "
        f"gpu_xla {engine.gpu_xla}"
    )


log = structlog.get_logger(__name__)

_MAX_UNLOAD_S: Final = 1.0
"""Maximum time for unloading, in seconds, because draining is over by then and a stop ends within 2 s of it."""

_JUDGEMENTS_PER_WINDOW: Final = 20
_MAX_JUDGEMENT_INTERVAL_S: Final = 1.0
"""Maximum time between two judgements of a canary, in seconds, because a bad canary does harm until then. A short
window is judged 20 times."""


@contextlib.contextmanager
def running_model_tasks(
    manager: ModelManager | None,
    settings: Settings,
    count_failure: Callable[[str], None],
    on_looked: Callable[[], None],
) -> Iterator[None]:
    """Keeps models loaded and canaries judged for the duration of the block; None if no models run here.

    `on_looked` is called when all versions that were found first are loaded, or have failed.
    """
    with contextlib.ExitStack() as stack:
        if manager is not None:
            stack.enter_context(
                background("models", partial(watch_models, manager, settings, on_looked), count_failure)
            )
            if (window_s := settings.canary.policies.shortest_window_s) is not None:
                stack.enter_context(
                    background("canaries", lambda: judge_canaries(manager, window_s), count_failure)
                )
        yield


async def close_models(manager: ModelManager | None) -> None:
    """Unloads the models that can be unloaded; a hung engine would delay the exit by its whole timeout."""
    if manager is None:
        return
    try:
        async with asyncio.timeout(_MAX_UNLOAD_S):
            await manager.close()
    except TimeoutError:
        log.error("models not unloaded in time", timeout_s=_MAX_UNLOAD_S)  # noqa: TRY400 - no trace to show


async def watch_models(manager: ModelManager, settings: Settings, on_looked: Callable[[], None]) -> None:
    """Loads the versions that are present, calls back, and watches for further ones."""
    models = settings.models
    await manager.refresh()
    on_looked()
    if not manager.default_ready:
        log.error(
            "the default model is not ready; put it into the model folder or name another with --default-model",
            model=models.default_model,
            model_repo=str(models.model_repo),
        )
    if models.repository_poll_s:
        async with contextlib.aclosing(changes(models.model_repo, models.repository_poll_s)) as moments:
            await manager.watch(moments)


async def judge_canaries(manager: ModelManager, shortest_window_s: float) -> None:
    """Judges canaries periodically, as often as the shortest window of a model requires."""
    while True:
        await asyncio.sleep(min(shortest_window_s / _JUDGEMENTS_PER_WINDOW, _MAX_JUDGEMENT_INTERVAL_S))
        await manager.judge_canaries()
