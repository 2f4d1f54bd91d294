import numpy as np
import onnx
import pytest

from ferserve_training.export.onnx_graph import OnnxGraph, same_pads, window
from ferserve_training.export.onnx_weights import OnnxWeights, pack_int16


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


def test_a_graph_that_leaves_an_output_out_is_rejected():
    graph = OnnxGraph()
    graph.add("Identity", graph.constant(np.zeros((1, 7))), name="logits")

    with pytest.raises(onnx.checker.ValidationError):
        graph.finish("model", "faces", {"probabilities": 7, "logits": 7})


@pytest.mark.parametrize("output_axis", [0, 1])
def test_packed_weights_are_off_by_half_a_step_of_their_channel_at_most(output_axis):
    weights = np.random.default_rng(1).normal(0, 1, (8, 8, 3, 3)).astype(np.float32)
    weights[3, 3] *= 100  # one channel must not coarsen the others

    multiples, scales = pack_int16(weights, output_axis)

    assert (multiples.dtype, scales.size) == (np.int16, 8)
    assert np.all(np.abs(multiples * scales - weights) <= 0.501 * scales)


def test_a_channel_of_zeros_stays_zero():
    multiples, scales = pack_int16(np.zeros((4, 2), np.float32), 1)

    assert not multiples.any()
    assert np.isfinite(scales).all()


def test_small_arrays_stay_exact_where_weights_are_packed():
    graph = OnnxGraph(OnnxWeights.INT16)

    assert graph.weights(np.ones((64, 63)), 1).startswith("constant")
    assert graph.weights(np.ones((64, 64)), 1).startswith("mul")
