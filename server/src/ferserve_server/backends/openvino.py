"""Runs ONNX files in OpenVINO, in float32, in bfloat16 or in int8, on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.backends.processor import multiplies_bfloat16, read_cpuinfo
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

_DEVICE: Final = "CPU"
_PRECISIONS: Final = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16", Precision.INT8: "f32"}
"""OpenVINO's names of precisions that the file does not define itself; a file in int8 names what is rounded."""


def read_model(
    content: bytes, description: ModelDescription, intra_op_thread_count: int
) -> Callable[[Precision], Session]:
    """Reads an ONNX file; see `onnx_loader.ReadModel`.

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    openvino = importlib.import_module("openvino")  # imported here: only a server that loads a model needs it
    core = openvino.Core()
    whole = core.read_model(content)
    check_signature(_specs(whole.inputs), _specs(whole.outputs), description)
    # Its other outputs, such as the logits, are not computed.
    model = openvino.Model([whole.output(name) for name in output_names_of(description)], whole.get_parameters())
    output_count = len(output_names_of(description))
    options = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": intra_op_thread_count,
        # Sessions know nothing of each other: pinned, all would be pinned to the first core.
        "ENABLE_CPU_PINNING": False,
    }

    def open_session(precision: Precision) -> Session:
        if precision is Precision.BFLOAT16 and not multiplies_bfloat16(read_cpuinfo()):
            raise precision_unsupported("The processor has neither avx512_bf16 nor amx_bf16.")
        # Set for float32 too: on processors with AMX the default is bfloat16.
        own = options | {"INFERENCE_PRECISION_HINT": _PRECISIONS[precision]}
        return _session_of(openvino, core.compile_model(model, _DEVICE, own).create_infer_request(), output_count)

    return open_session


def _session_of(openvino: Any, request: Any, output_count: int) -> Session:  # noqa: ANN401 - untyped
    def run(crops: CropBatch) -> Scores:
        # It would accept no read-only array; those are the bytes of a single request's message.
        request.set_input_tensor(openvino.Tensor(crops, shared_memory=crops.flags.writeable))
        request.infer()
        # A copy: the next batch is written in the same place.
        if output_count > 1:
            return join_outputs([request.get_output_tensor(index).data for index in range(output_count)])
        scores: Scores = request.get_output_tensor(0).data.copy()
        return scores

    return Session(run)


def _specs(ports: Sequence[Any]) -> dict[str, TensorSpec]:
    return {
        port.any_name: TensorSpec(port.element_type.to_dtype().name, _sides(port.partial_shape)) for port in ports
    }


def _sides(shape: Any) -> tuple[int, ...]:  # noqa: ANN401 - untyped
    if shape.rank.is_dynamic:
        return ()
    return tuple(-1 if side.is_dynamic else side.get_length() for side in shape)
