"""Writes a Keras net of plain layers as ONNX nodes: the chains of the recipes and their backbones."""

from typing import Any

import keras
import numpy as np

from ferserve_training.errors import TrainingError
from ferserve_training.export.onnx_graph import OnnxGraph, window


def add_layers(graph: OnnxGraph, model: keras.Model, images: str) -> str:
    """Add what a net computes at inference.

    Args:
        graph: Is added to.
        model: A net of layers called once each, one input and one output; nets inside it may branch.
        images: Name of float32 [N, channels, height, width].

    Returns:
        Name of the output.

    Raises:
        TrainingError: A layer is of a kind that is not known here.
    """
    names = {id(model.inputs[0]): images}
    last = images
    after_net = False
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.Model):
            # Its own tensors are not those of the net around it, which goes on where it ends.
            last, after_net = add_layers(graph, layer, last), True
            continue
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        last = _add(graph, layer, [last] if after_net else [names[id(source)] for source in sources])
        names[id(layer.output)] = last
        after_net = False
    return last


def _add(graph: OnnxGraph, layer: keras.layers.Layer, inputs: list[str]) -> str:  # noqa: C901, PLR0911, PLR0912  # a table
    layers = keras.layers
    x = inputs[0]
    match layer:
        case layers.Rescaling():
            return graph.add("Mul", x, graph.constant(layer.scale))
        case layers.Resizing():
            sides = graph.constant([layer.height, layer.width], np.int64)
            # TensorFlow resizes between the centres of the pixels, without anti-aliasing.
            return graph.add(
                "Resize",
                *(x, "", "", sides),
                axes=[2, 3],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        case layers.Concatenate():
            return graph.add("Concat", *inputs, axis=1)
        case layers.Conv2D():
            kernel = graph.weights(np.asarray(layer.kernel).transpose(3, 2, 0, 1), 0)
            bias = [graph.constant(np.asarray(layer.bias))] if layer.use_bias else []
            return _activated(graph, layer, graph.add("Conv", x, kernel, *bias, **_window(layer, "kernel_size")))
        case layers.Dense():
            kernel, bias_name = graph.weights(np.asarray(layer.kernel), 1), graph.constant(np.asarray(layer.bias))
            return _activated(graph, layer, graph.add("Gemm", x, kernel, bias_name))
        case layers.BatchNormalization():
            parts = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
            values = [graph.constant(np.asarray(part)) for part in parts]
            return graph.add("BatchNormalization", x, *values, epsilon=layer.epsilon)
        case layers.ReLU():
            return graph.add("Relu", x)
        case layers.Activation():
            return _activated(graph, layer, x)
        case layers.MaxPooling2D():
            return graph.add("MaxPool", x, **_window(layer, "pool_size"))
        case layers.ZeroPadding2D():
            (top, bottom), (left, right) = layer.padding
            pads = graph.constant([top, left, bottom, right], np.int64)
            # With axes, because without them ONNX Runtime 1.31 makes the zeros part of a MaxPool behind it, whose
            # own padding is minus infinity: ResNet50V2's answers were off by 1e-3.
            return graph.add("Pad", x, pads, "", graph.constant([2, 3], np.int64))
        case layers.Add():
            return graph.add("Add", *inputs)
        case layers.Dropout():
            return x
        case layers.Flatten():
            # Keras flattens maps whose channels come last.
            return graph.add("Flatten", graph.add("Transpose", x, perm=[0, 2, 3, 1]), axis=1)
        case layers.GlobalAveragePooling2D():
            return graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
        case _:
            raise TrainingError(f"{type(layer).__name__} has no counterpart in ONNX here: export with --onnx none")


def _activated(graph: OnnxGraph, layer: keras.layers.Layer, x: str) -> str:
    name = layer.activation.__name__
    if name == "linear":
        return x
    if name == "relu":
        return graph.add("Relu", x)
    raise TrainingError(f"the activation {name} has no counterpart in ONNX here: export with --onnx none")


def _window(layer: keras.layers.Layer, kernel: str) -> dict[str, Any]:
    """Give the attributes of a layer with a square window on a square map."""
    return window(layer.input.shape[1], getattr(layer, kernel)[0], layer.strides[0], layer.padding)
