"""Computes a folded net with TensorFlow: the function that is served."""

from collections.abc import Sequence

import tensorflow as tf

from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.standardise import standardise


def folded_features(
    spec: NetSpec,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    images: tf.Tensor,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Compute the averaged map with the operations that TensorFlow fuses on a CPU: Conv2D, BiasAdd, Relu.

    Args:
        spec: The net.
        kernels: As in `FoldedNet`; arrays, tensors or variables.
        biases: Likewise.
        images: float32 [N, 48, 48, 1], grey levels 0 to 255.
        dtype: What the maps are computed in.

    Returns:
        float32 [N, C].
    """
    x = tf.cast(standardise(images), dtype)
    for conv, kernel, bias in zip(spec.convolutions, kernels, biases, strict=False):
        y = tf.nn.bias_add(tf.nn.conv2d(x, tf.cast(kernel, dtype), conv.stride, "SAME"), tf.cast(bias, dtype))
        x = tf.nn.relu(x + y if conv.residual else y)
    return tf.cast(tf.reduce_mean(x, [1, 2]), tf.float32)


def apply_head(features: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Compute a head's logits, float32 [N, out], from the averaged map."""
    return tf.nn.bias_add(tf.matmul(features, kernel), bias)
