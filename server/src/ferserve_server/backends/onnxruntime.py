"""Runs ONNX files in ONNX Runtime, in float32 or in int8, on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ferserve_server.backends.sessions import (
    Session,
    TensorSpec,
    check_signature,
    join_outputs,
    output_names_of,
    precision_unsupported,
)
from ferserve_server.domain.servable import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def read_model(
    content: bytes, description: ModelDescription, intra_op_thread_count: int
) -> Callable[[Precision], Session]:
    """Reads an ONNX file; see `onnx_loader.ReadModel`. What it returns checks the signature."""
    runtime = importlib.import_module("onnxruntime")  # imported here: only a server that loads a model needs it
    options = runtime.SessionOptions()
    # With one thread a batch runs on the calling thread.
    options.intra_op_num_threads = intra_op_thread_count
    options.inter_op_num_threads = 1
    # Threads that spin between batches would take the cores that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors

    output_names = output_names_of(description)

    def open_session(precision: Precision) -> Session:
        if precision is Precision.BFLOAT16:
            raise precision_unsupported("ONNX Runtime computes no bfloat16 on this processor.")
        inference = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        check_signature(_specs(inference.get_inputs()), _specs(inference.get_outputs()), description)

        def run(crops: CropBatch) -> Scores:
            return join_outputs(inference.run(output_names, {description.input.name: crops}))

        return Session(run)

    return open_session


def _specs(tensors: Sequence[Any]) -> dict[str, TensorSpec]:
    """Converts tensor declarations; sides that are not numbers are names, or None: any."""
    return {
        tensor.name: TensorSpec(
            _DTYPES.get(tensor.type, tensor.type),
            tuple(side if isinstance(side, int) else -1 for side in tensor.shape),
        )
        for tensor in tensors
    }
