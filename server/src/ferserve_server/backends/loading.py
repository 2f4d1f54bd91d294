"""Which engine runs which version, in whatever process: TensorFlow, and ensembles on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ferserve_server.backends.ensemble import EnsembleLoader
from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.backends.tensorflow_core import TensorFlowCore
from ferserve_server.repository.source import RepositorySource

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.ports import Loader


class LoaderOptions(Protocol):
    """What of the settings loaders need. Their meaning is in `settings.Settings`."""

    @property
    def model_repo(self) -> Path:
        """Folder of models."""

    @property
    def executor_count(self) -> int:
        """Batches that run at once, or 0."""

    @property
    def intra_op_threads(self) -> int:
        """Threads within one operation."""

    @property
    def gpu_memory_limit_mib(self) -> int:
        """Cap of GPU memory in MiB, or 0."""


OnThread = Callable[[Callable[[], None]], None]
"""Has another thread do something, and waits for it."""


def make_loader(options: LoaderOptions, on_serving_thread: OnThread = lambda work: work()) -> Loader:
    """Makes what loads versions into this process.

    Args:
        options: What of the settings it needs.
        on_serving_thread: See `saved_model.FrozenGraph`. Threads inherit the priority of the one that makes them,
            and versions may be loaded and tried on one that gives way to others.
    """
    return EnsembleLoader(_saved_models(options, on_serving_thread), RepositorySource(options.model_repo))


def bring_up(options: LoaderOptions, on_serving_thread: OnThread) -> None:
    """Does what takes long and needs no version; see `make_loader`. Slow and blocking."""
    TensorFlowCore()
    on_serving_thread(_saved_models(options, on_serving_thread).start_shared_threads)


def _saved_models(options: LoaderOptions, on_serving_thread: OnThread) -> SavedModelLoader:
    return SavedModelLoader(
        on_serving_thread=on_serving_thread,
        executor_count=options.executor_count,
        intra_op_thread_count=options.intra_op_threads,
        gpu_memory_limit_mib=options.gpu_memory_limit_mib,
    )
