import numpy as np
import onnx
import pytest

from ferserve_training.export.onnx_graph import OnnxGraph, same_pads, window


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (48, 3, 1, (1, 1)),
        (48, 3, 2, (0, 1)),
        (24, 3, 2, (0, 1)),
        (12, 3, 2, (0, 1)),
        (6, 3, 2, (0, 1)),
        (3, 3, 2, (1, 1)),
        (3, 2, 2, (0, 1)),
        (6, 2, 2, (0, 0)),
        (1, 3, 1, (1, 1)),
    ],
)
def test_same_padding_is_that_of_tensorflow(size, kernel, stride, pads):
    assert same_pads(size, kernel, stride) == pads


def test_valid_padding_adds_no_pixel():
    assert window(23, 2, 2, "valid") == {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]}


def test_a_graph_that_leaves_an_output_out_is_refused():
    graph = OnnxGraph()
    graph.add("Identity", graph.constant(np.zeros((1, 7))), name="logits")

    with pytest.raises(onnx.checker.ValidationError):
        graph.finish("model", "faces", {"probabilities": 7, "logits": 7})
