"""Wiring of what loads versions: into this process, or into engine processes.

It imports little: with it the first engine process is started, which comes up while the rest is imported.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ferserve_server.backends.engine.loader import EngineLoader
from ferserve_server.backends.engine.options import EngineOptions
from ferserve_server.backends.engine.step_limits import StepLimits
from ferserve_server.backends.loading import make_loader
from ferserve_server.observability.logging import chosen_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferserve_server.domain.ports import Loader
    from ferserve_server.settings import Settings


def default_loader(settings: Settings) -> Loader:
    """Loads versions into this process, with the engine that the settings name, and ensembles on it.

    Raises:
        BackendMissingError: Its package is not installed.
    """
    return make_loader(settings)


@contextlib.contextmanager
def opened_loader(settings: Settings) -> Iterator[Loader | None]:
    """Loads versions where the settings want them; on leaving, whatever was started for them has ended.

    Yields:
        The loader; None if the models run in a model tier.

    Raises:
        BackendMissingError: The engine's package is not installed.
        OSError: The system cannot start another process.
    """
    if settings.upstream:
        yield None
        return
    if settings.engine == "thread":
        yield default_loader(settings)
        return
    default_loader(settings)  # refuses here what no engine process could use
    limits = StepLimits(
        settings.load_step_timeout_s, settings.load_memory_mib * 2**20, max(1, settings.intra_op_threads)
    )
    made = EngineLoader(
        _engine_options(settings), settings.bucket_sizes[-1], limits, standby_count=settings.standby_engines
    )
    with contextlib.closing(made) as loader:
        loader.start()
        yield loader


def stop_loading(loader: Loader | None) -> None:
    """Ends the load that runs in an engine process, and all that come. Does not wait; any thread.

    A thread of this process that loads cannot be ended; it ends with the process.
    """
    if isinstance(loader, EngineLoader):
        loader.stop_loading()


def _engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        model_repo=settings.model_repo,
        backend=settings.backend,
        executor_count=settings.executor_count,
        intra_op_threads=settings.intra_op_threads,
        gpu_memory_limit_mib=settings.gpu_memory_limit_mib,
        gpu_xla=settings.gpu_xla,
        log_level=settings.log_level,
        log_format=chosen_format(settings.log_format),
    )
