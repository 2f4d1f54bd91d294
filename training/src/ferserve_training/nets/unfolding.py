"""Unfolds a net into a form that can be trained further."""

from typing import Final

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.nets.folding import FoldedNet
from ferserve_training.nets.standardise import standardise

STATISTICS_FACE_COUNT: Final = 1024
"""Faces that the statistics are measured on; of a map of 3x3 that still makes 9,216 values a channel."""


def unfold(net: FoldedNet, model: keras.Model, images: npt.NDArray[np.uint8]) -> None:
    """Put a folded net's values into a trainable one of the same spec, which then computes the same.

    Folding took the batch norms away; each gets back the mean and the variance that its convolution has on
    `images`, and a scale and an offset that undo them, so that training starts from the net's own function and
    with norms that do not jump at the first batch.

    Args:
        net: The net.
        model: What `build_trainable` built from `net.spec`; its weights are replaced. Its other
            heads keep their own values where the net has no such head.
        images: uint8 [N, 48, 48, 1], faces such as the net will see.
    """
    x = standardise(ops.cast(images, "float32"))
    for index, conv in enumerate(net.spec.convolutions):
        kernel, bias = net.kernels[index], net.biases[index]
        y = ops.conv(x, kernel, strides=conv.stride, padding="same", data_format="channels_last")
        mean, variance = (np.asarray(each) for each in ops.moments(y, axes=[0, 1, 2]))
        norm = model.get_layer(f"norm_{index}")
        model.get_layer(f"conv_{index}").kernel.assign(kernel)
        norm.gamma.assign(np.sqrt(variance + norm.epsilon))
        norm.beta.assign(bias + mean)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
        y = y + bias
        x = ops.relu(x + y if conv.residual else y)
    _fill_head(model, "classifier", net.kernels[-1], net.biases[-1])
    heads = [layer.name for layer in model.layers]
    if net.vote_kernel is not None and net.vote_bias is not None and "votes" in heads:
        _fill_head(model, "votes", net.vote_kernel, net.vote_bias)
    if net.not_a_face_kernel is not None and net.not_a_face_bias is not None and "not_a_face" in heads:
        _fill_head(model, "not_a_face", net.not_a_face_kernel, net.not_a_face_bias)


def _fill_head(
    model: keras.Model, name: str, kernel: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> None:
    head = model.get_layer(name)
    head.kernel.assign(kernel)
    head.bias.assign(bias)
