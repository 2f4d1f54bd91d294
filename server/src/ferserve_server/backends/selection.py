"""Selects and builds the loader that a setting names."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from ferserve_server.backends import onnxruntime, openvino
from ferserve_server.backends.onnx_loader import OnnxLoader
from ferserve_server.backends.serving_thread import run_at_serving_priority
from ferserve_server.backends.tensorflow import SavedModelLoader

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.ports import Loader


Backend = Literal["tensorflow", "onnxruntime", "openvino"]

TENSORFLOW: Final = "tensorflow"
ONNX_RUNTIME: Final = "onnxruntime"
OPENVINO: Final = "openvino"

AUTO: Final = "auto"

_PREFERENCE: Final[tuple[Backend, ...]] = (TENSORFLOW, ONNX_RUNTIME, OPENVINO)

_EXTRAS: Final = {
    TENSORFLOW: "ferserve-server[cpu] or ferserve-server[gpu]",
    ONNX_RUNTIME: "ferserve-server[onnx]",
    OPENVINO: "ferserve-server[openvino]",
}
"""Extras that install each package. The keys are the setting's values, and the names that Python imports."""


def installed_backend() -> Backend:
    """Names the first installed engine in the order of preference; TensorFlow where none is installed."""
    return next((name for name in _PREFERENCE if _is_installed(name)), TENSORFLOW)


class BackendMissingError(Exception):
    """Reports that the package of the configured engine is not installed; the text says what to install."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Configures how engines run.

    Attributes:
        executor_count: Batches that run at once; 0 picks one per core on a CPU and 2 on a GPU.
        intra_op_thread_count: Threads within one operation, 1 or more.
        gpu_memory_limit_mib: Cap of GPU memory in MiB; 0 lets it grow as needed. TensorFlow alone uses GPUs.
        gpu_xla: True if XLA compiles models on a GPU.
    """

    executor_count: int = 0
    intra_op_thread_count: int = 1
    gpu_memory_limit_mib: int = 0
    gpu_xla: bool = False


def engine_loader(backend: str, settings: EngineSettings) -> Loader:
    """Makes the loader of an engine, without importing the engine's package.

    Args:
        backend: One of the names above.
        settings: Configures its execution.

    Raises:
        BackendMissingError: Its package is not installed.
    """
    if not _is_installed(backend):
        others = ", ".join(name for name in _EXTRAS if _is_installed(name)) or "none"
        raise BackendMissingError(
            f"--backend {backend}: the package {backend} is not installed. Install {_EXTRAS[backend]}, or choose "
            f"another backend (installed: {others})."
        )
    counts = {
        "executor_count": settings.executor_count,
        "intra_op_thread_count": settings.intra_op_thread_count,
    }
    if backend == ONNX_RUNTIME:
        return OnnxLoader(backend, onnxruntime.read_model, **counts)
    if backend == OPENVINO:
        return OnnxLoader(backend, openvino.read_model, **counts)
    return SavedModelLoader(**counts, gpu_memory_limit_mib=settings.gpu_memory_limit_mib, gpu_xla=settings.gpu_xla)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that rejects it; a module that replaced it
        return False


class LoaderOptions(Protocol):
    """Selects the settings that loaders need. Their meaning is in `config.settings.Settings`."""

    @property
    def model_repo(self) -> Path:
        """Returns the folder of models."""

    @property
    def backend(self) -> str:
        """Returns the name of the engine."""

    @property
    def executor_count(self) -> int:
        """Returns the number of batches that run at once, or 0."""

    @property
    def intra_op_threads(self) -> int:
        """Returns the number of threads within one operation."""

    @property
    def gpu_memory_limit_mib(self) -> int:
        """Returns the cap of GPU memory in MiB, or 0."""

    @property
    def gpu_xla(self) -> bool:
        """Returns whether XLA compiles models on a GPU."""


def make_loader(options: LoaderOptions) -> Loader:
    """Builds the loader of the engine that the options name.

    Raises:
        BackendMissingError: Its package is not installed.
    """
    wanted = EngineSettings(
        options.executor_count, options.intra_op_threads, options.gpu_memory_limit_mib, options.gpu_xla
    )
    return engine_loader(options.backend, wanted)


def bring_up(options: LoaderOptions) -> None:
    """Imports the engine and starts its shared threads before any version is loaded. Slow and blocking."""
    engine = make_loader(options)
    if options.backend == TENSORFLOW and isinstance(engine, SavedModelLoader):
        engine.import_engine()
        run_at_serving_priority(engine.start_shared_threads)
