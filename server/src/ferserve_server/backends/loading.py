"""Which engine runs which version, in whatever process: TensorFlow, and ensembles on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ferserve_server.backends.ensemble import EnsembleLoader
from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.backends.tensorflow_core import TensorFlowCore
from ferserve_server.repository.source import RepositorySource

if TYPE_CHECKING:
    from collections.abc import Callable
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


def make_loader(options: LoaderOptions) -> Loader:
    """Makes what loads versions into this process."""
    return EnsembleLoader(_saved_models(options), RepositorySource(options.model_repo))


def bring_up(options: LoaderOptions, on_main_thread: Callable[[Callable[[], None]], None]) -> None:
    """Does what takes long and needs no version. Slow and blocking.

    Args:
        options: Those of the loader that will be made.
        on_main_thread: Has the process's main thread do something, and waits for it. Threads inherit the priority
            of the one that makes them, and this may be called on one that gives way to others.
    """
    TensorFlowCore()
    on_main_thread(_saved_models(options).start_shared_threads)


def _saved_models(options: LoaderOptions) -> SavedModelLoader:
    return SavedModelLoader(
        executor_count=options.executor_count,
        intra_op_thread_count=options.intra_op_threads,
        gpu_memory_limit_mib=options.gpu_memory_limit_mib,
    )
