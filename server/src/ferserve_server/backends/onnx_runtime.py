"""Runs the ONNX files of versions in ONNX Runtime, in float32 or in int8, on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import structlog

from ferserve_server.backends.onnx_file import read_onnx
from ferserve_server.backends.processor import cpu_count
from ferserve_server.backends.sessions import Session, SessionServable, precision_unsupported
from ferserve_server.backends.signature import TensorSpec, check_signature
from ferserve_server.domain.servable import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

log = structlog.get_logger(__name__)

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeLoader:
    """Loads ONNX files into ONNX Runtime.

    Args of the constructor:
        executor_count: Batches that run at once; 0 picks one per core.
        intra_op_thread_count: Threads within one operation, 1 or more.

    Thread-safety: `load` may be called from any thread, one at a time.
    """

    def __init__(self, *, executor_count: int, intra_op_thread_count: int) -> None:
        self._executor_count = executor_count
        self._intra_op_thread_count = intra_op_thread_count

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> SessionServable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: ONNX_MISSING or SIGNATURE_MISMATCH.
        """
        content = read_onnx(directory, "onnxruntime")
        runtime = importlib.import_module("onnxruntime")  # here: only a server that loads a model needs it
        options = self._options(runtime)

        def open_session(precision: Precision) -> Session:
            if precision is Precision.BFLOAT16:
                raise precision_unsupported("ONNX Runtime computes no bfloat16 on this processor.")
            inference = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            check_signature(_specs(inference.get_inputs()), _specs(inference.get_outputs()), description)

            def run(crops: CropBatch) -> Scores:
                scores: Scores = inference.run([description.output], {description.input.name: crops})[0]
                return scores

            return Session(run)

        executor_count = self._executor_count or cpu_count()
        servable = SessionServable(servable_id, description, open_session, executor_count=executor_count)
        log.info("model loaded", servable=str(servable_id), backend="onnxruntime", executors=executor_count)
        return servable

    def _options(self, runtime: Any) -> Any:  # noqa: ANN401 - untyped
        options = runtime.SessionOptions()
        # With one thread a batch runs on the thread that brought it.
        options.intra_op_num_threads = self._intra_op_thread_count
        options.inter_op_num_threads = 1
        # Threads that spin between batches would take the cores that pictures are decoded on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        return options


def _specs(tensors: Sequence[Any]) -> dict[str, TensorSpec]:
    """Sides that are not numbers are names, or None: any."""
    return {
        tensor.name: TensorSpec(
            _DTYPES.get(tensor.type, tensor.type),
            tuple(side if isinstance(side, int) else -1 for side in tensor.shape),
        )
        for tensor in tensors
    }
