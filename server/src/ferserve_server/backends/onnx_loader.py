"""Loads the ONNX file beside a SavedModel, for any runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from ferserve_server.backends.processor import cpu_count
from ferserve_server.backends.sessions import Session, SessionServable
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ModelDescription, Precision
from ferserve_server.models.manifest import ONNX_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import ServableId

log = structlog.get_logger(__name__)

ReadModel = Callable[[bytes, ModelDescription, int], Callable[[Precision], Session]]
"""Type of a runtime's reader: from a file's content, its manifest description and the number of threads within one
operation to a function that opens sessions. Either raises SIGNATURE_MISMATCH."""


class OnnxLoader:
    """Loads the ONNX files of versions into one runtime, on the CPU.

    Args of the constructor:
        backend: Name of the runtime.
        read_model: Reads a file with the runtime.
        executor_count: Batches that run at once; 0 picks one per core.
        intra_op_thread_count: Threads within one operation, 1 or more.

    Thread-safety: `load` may be called from any thread, one at a time.
    """

    def __init__(
        self, backend: str, read_model: ReadModel, *, executor_count: int, intra_op_thread_count: int
    ) -> None:
        self._backend = backend
        self._read_model = read_model
        self._executor_count = executor_count
        self._intra_op_thread_count = intra_op_thread_count

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> SessionServable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: ONNX_MISSING or SIGNATURE_MISMATCH.
        """
        content = _read_file(directory, self._backend)
        open_session = self._read_model(content, description, self._intra_op_thread_count)
        executor_count = self._executor_count or cpu_count()
        servable = SessionServable(servable_id, description, open_session, executor_count=executor_count)
        log.info("model loaded", servable=str(servable_id), backend=self._backend, executors=executor_count)
        return servable


def _read_file(directory: Path, backend: str) -> bytes:
    """Reads the ONNX file of the version in `directory`.

    Runtimes get bytes, not a path: these were compared with the manifest's checksum, and a file that is read from
    a path may name others for its weights.

    Raises:
        ModelRejectedError: ONNX_MISSING.
    """
    try:
        return (directory / ONNX_PATH).read_bytes()
    except FileNotFoundError:
        raise ModelRejectedError(
            "ONNX_MISSING",
            f"There is no {ONNX_PATH}, which --backend {backend} runs. Publish the version with one "
            "(ferserve-train export --onnx float32), or use --backend tensorflow.",
            backend=backend,
        ) from None
