"""What a SavedModel takes and gives, held against what its manifest says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from ferserve_server.backends.tensorflow_core import TensorFlowCore
    from ferserve_server.domain.servable import ModelDescription

SIGNATURE: Final = "serving_default"
"""Name of the signature that is run."""


def check_signature(tf: TensorFlowCore, signature: Any, description: ModelDescription) -> None:  # noqa: ANN401 - untyped
    """Refuses a SavedModel whose signature is not what its manifest says.

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    if signature is None:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"There is no signature {SIGNATURE}.")
    wanted = description.input
    if list(signature.inputs) != [wanted.name]:
        raise ModelRejectedError(
            "SIGNATURE_MISMATCH", f"The inputs are {sorted(signature.inputs)}, not [{wanted.name!r}]."
        )
    taken = signature.inputs[wanted.name]
    shape = _shape(taken)
    if taken.dtype != tf.dtypes.uint8.as_datatype_enum or shape != [-1, wanted.height, wanted.width, 1]:
        dtype = tf.dtypes.as_dtype(taken.dtype).name
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"The input is {dtype} {shape}, not uint8 [N, H, W, 1].")
    if description.output not in signature.outputs:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"There is no output {description.output!r}.")
    shape = _shape(signature.outputs[description.output])
    if not shape or shape[-1] != len(description.labels):
        raise ModelRejectedError(
            "SIGNATURE_MISMATCH", f"{description.output} is {shape}, not one score per label."
        )


def _shape(tensor: Any) -> list[int]:  # noqa: ANN401 - TensorFlow ships no types
    """The sides of a tensor of a signature, -1 for any; [] if their number is open."""
    return [side.size for side in tensor.tensor_shape.dim]
