"""What loads versions into this process, whichever process that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ferserve_server.backends.choice import TENSORFLOW, EngineSettings, engine_loader
from ferserve_server.backends.ensemble import EnsembleLoader
from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.backends.serving_thread import made_to_serve
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
    def backend(self) -> str:
        """Name of the engine."""

    @property
    def executor_count(self) -> int:
        """Batches that run at once, or 0."""

    @property
    def intra_op_threads(self) -> int:
        """Threads within one operation."""

    @property
    def gpu_memory_limit_mib(self) -> int:
        """Cap of GPU memory in MiB, or 0."""

    @property
    def gpu_xla(self) -> bool:
        """Whether XLA compiles models on a GPU."""


def make_loader(options: LoaderOptions) -> Loader:
    """The engine that the options name, as they want it, and ensembles on it.

    Raises:
        BackendMissingError: Its package is not installed.
    """
    return EnsembleLoader(_engine(options), RepositorySource(options.model_repo))


def bring_up(options: LoaderOptions) -> None:
    """Does what takes long and needs no version. Slow and blocking."""
    engine = _engine(options)
    if options.backend == TENSORFLOW and isinstance(engine, SavedModelLoader):
        engine.import_engine()
        made_to_serve(engine.start_shared_threads)


def _engine(options: LoaderOptions) -> Loader:
    wanted = EngineSettings(
        options.executor_count, options.intra_op_threads, options.gpu_memory_limit_mib, options.gpu_xla
    )
    return engine_loader(options.backend, wanted)
