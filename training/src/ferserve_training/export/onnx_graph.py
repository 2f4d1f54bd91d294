"""Builds an ONNX graph, in which every tensor is known by its name."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ferserve_training.export.onnx_weights import MIN_PACKED_SIZE, OnnxWeights, pack_int16
from ferserve_training.labels import FACE_SIZE, LABELS

OPSET: Final = 18
"""The first whose Resize takes the axes to resize; ONNX Runtime reads it since 1.14 (2023)."""
_IR_VERSION: Final = 8
"""What came with opset 18: readers reject files of a later one than they know."""


class OnnxGraph:
    """Nodes and constants in the order of computation. Maps are [N, channels, height, width], as ONNX has them.

    Args of the constructor:
        weights: What `weights` stores them as.

    Not thread-safe.
    """

    def __init__(self, weights: OnnxWeights = OnnxWeights.FLOAT32) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(
        self, operation: str, *inputs: str, name: str | None = None, **attributes: float | str | list[int]
    ) -> str:
        """Append a node with one output.

        Args:
            operation: Of the default ONNX domain.
            inputs: Names of its inputs.
            name: Of its output; made up where it does not matter.
            attributes: Of the operation.

        Returns:
            The name of the output.
        """
        output = name or f"{operation.lower()}_{len(self._nodes)}"
        settings: dict[str, Any] = {**attributes}
        self._nodes.append(helper.make_node(operation, list(inputs), [output], name=output, **settings))
        return output

    def constant(self, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Add an array to the file and give its name."""
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(np.asarray(values, dtype))
        # ascontiguousarray makes a vector of a scalar.
        self._constants.append(numpy_helper.from_array(array.reshape(np.shape(values)), name))
        return name

    def weights(self, values: npt.ArrayLike, output_axis: int) -> str:
        """Add the weights of a layer, and give the name under which they are float32.

        Those in int16 are cast and scaled by nodes without other inputs, which runtimes compute once at load.

        Args:
            values: The weights.
            output_axis: Along which the output channels lie.
        """
        array = np.asarray(values, np.float32)
        if self._weights is OnnxWeights.FLOAT32 or array.size < MIN_PACKED_SIZE:
            return self.constant(array)
        multiples, scales = pack_int16(array, output_axis)
        cast = self.add("Cast", self.constant(multiples, np.int16), to=TensorProto.FLOAT)
        return self.add("Mul", cast, self.constant(scales))

    def finish(self, model_name: str, input_name: str, widths: dict[str, int | None]) -> onnx.ModelProto:
        """Close the graph over faces, uint8 [N, 48, 48, 1]; N is free.

        Args:
            model_name: Of the graph.
            input_name: Of the faces.
            widths: By the name of each output its width: float32 [N, width], or float32 [N] for None.

        Raises:
            onnx.checker.ValidationError: The graph is not a valid one.
        """
        scores = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"] if width is None else ["N", width])
            for name, width in widths.items()
        ]
        faces = helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["N", FACE_SIZE, FACE_SIZE, 1])
        graph = helper.make_graph(self._nodes, model_name, [faces], scores, self._constants)
        model = helper.make_model(
            graph,
            producer_name="ferserve-train",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, {"labels": ",".join(LABELS)})
        onnx.checker.check_model(model, full_check=True)
        return model


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Count the pixels that TensorFlow's padding 'SAME' puts before and after an axis.

    The output has ceil(size / stride) pixels; an odd remainder goes behind, so that stride 2 on an even size pads
    on one side only (https://www.tensorflow.org/api_docs/python/tf/nn, "Notes on padding").

    Args:
        size: Of the input along the axis, pixels.
        kernel: Of the window, pixels.
        stride: Of the window, pixels.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def window(size: int, kernel: int, stride: int, padding: str) -> dict[str, Any]:
    """Give the attributes of a square Conv or MaxPool on a square map.

    Args:
        size: Side of the input map, pixels.
        kernel: Side of the window, pixels.
        stride: Along both axes, pixels.
        padding: 'same' or 'valid', as TensorFlow means them.
    """
    before, after = same_pads(size, kernel, stride) if padding == "same" else (0, 0)
    return {
        "kernel_shape": [kernel, kernel],
        "strides": [stride, stride],
        "pads": [before, before, after, after],
    }
