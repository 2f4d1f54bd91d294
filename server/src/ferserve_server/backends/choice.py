"""Which engine a setting names, and whether it is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.backends import onnx_runtime, openvino_model
from ferserve_server.backends.onnx_loader import OnnxLoader
from ferserve_server.backends.saved_model import SavedModelLoader

if TYPE_CHECKING:
    from ferserve_server.domain.ports import Loader

TENSORFLOW: Final = "tensorflow"
ONNX_RUNTIME: Final = "onnxruntime"
OPENVINO: Final = "openvino"

_EXTRAS: Final = {
    TENSORFLOW: "ferserve-server[cpu] or ferserve-server[gpu]",
    ONNX_RUNTIME: "ferserve-server[onnx]",
    OPENVINO: "ferserve-server[openvino]",
}
"""What brings each package. The keys are what the setting takes, and the names that Python imports."""


class BackendMissingError(Exception):
    """The package of the engine that the settings name is not installed; the text says what to install."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How engines run.

    Attributes:
        executor_count: Batches that run at once; 0 picks one per core on a CPU and 2 on a GPU.
        intra_op_thread_count: Threads within one operation, 1 or more.
        gpu_memory_limit_mib: Cap of GPU memory in MiB; 0 lets it grow as needed. TensorFlow alone uses GPUs.
        gpu_xla: Whether XLA compiles models on a GPU.
    """

    executor_count: int = 0
    intra_op_thread_count: int = 1
    gpu_memory_limit_mib: int = 0
    gpu_xla: bool = False


def engine_loader(backend: str, settings: EngineSettings) -> Loader:
    """Makes the loader of an engine, without importing the engine's package.

    Args:
        backend: One of the names above.
        settings: How it runs.

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
        return OnnxLoader(backend, onnx_runtime.read_model, **counts)
    if backend == OPENVINO:
        return OnnxLoader(backend, openvino_model.read_model, **counts)
    return SavedModelLoader(**counts, gpu_memory_limit_mib=settings.gpu_memory_limit_mib, gpu_xla=settings.gpu_xla)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that refuses it; a module that was put in its place
        return False
