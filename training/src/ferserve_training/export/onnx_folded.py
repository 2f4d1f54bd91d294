"""Writes a folded net as ONNX nodes: Conv, Add, Relu, GlobalAveragePool, Gemm."""

import numpy as np

from ferserve_training.export.onnx_graph import OnnxGraph, window
from ferserve_training.labels import FACE_SIZE
from ferserve_training.nets.folding import FoldedNet
from ferserve_training.nets.spec import KERNEL_SIZE
from ferserve_training.nets.standardise import MIN_DEVIATION


def add_folded(graph: OnnxGraph, net: FoldedNet, images: str) -> tuple[str, str | None]:
    """Add what `folded_features` and the heads compute, that for images that are no faces if there is one.

    Args:
        graph: Is added to.
        net: The net.
        images: Name of float32 [N, 1, 48, 48], grey levels 0 to 255.

    Returns:
        Names of the logits, float32 [N, 7], and of the logit of no face, float32 [N, 1], or None.
    """
    x, size = _standardised(graph, images), FACE_SIZE
    for conv, kernel, bias in zip(net.spec.convolutions, net.kernels, net.biases, strict=False):
        y = graph.add(
            "Conv",
            x,
            graph.weights(kernel.transpose(3, 2, 0, 1), 0),
            graph.constant(bias),
            **window(size, KERNEL_SIZE, conv.stride, "same"),
        )
        x = graph.add("Relu", graph.add("Add", x, y) if conv.residual else y)
        size = -(-size // conv.stride)
    means = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
    logits = graph.add("Gemm", means, graph.weights(net.kernels[-1], 1), graph.constant(net.biases[-1]))
    if net.not_a_face_kernel is None or net.not_a_face_bias is None:
        return logits, None
    weights, offset = graph.weights(net.not_a_face_kernel, 1), graph.constant(net.not_a_face_bias)
    return logits, graph.add("Gemm", means, weights, offset)


def _standardised(graph: OnnxGraph, images: str) -> str:
    """Add what `standardise` computes."""
    axes = graph.constant([1, 2, 3], np.int64)
    centred = graph.add("Sub", images, graph.add("ReduceMean", images, axes, keepdims=1))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=1)
    deviation = graph.add("Max", graph.add("Sqrt", variance), graph.constant(MIN_DEVIATION))
    return graph.add("Div", centred, deviation)
