"""The form of a net that is served: batch norm folded into the convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.standardise import standardise


@dataclass(frozen=True, slots=True)
class FoldedNet:
    """A net as kernels and biases.

    Attributes:
        spec: The net.
        kernels: Of the convolutions, float32 [3, 3, in, out], and last of the classifier, float32 [in, 7].
        biases: Of each, float32 [out].
    """

    spec: NetSpec
    kernels: tuple[npt.NDArray[np.float32], ...]
    biases: tuple[npt.NDArray[np.float32], ...]


def fold(model: keras.Model, spec: NetSpec) -> FoldedNet:
    """Fold the batch norms of a trainable net into its convolutions, in float64.

    Args:
        model: What `build_trainable` built from `spec`.
        spec: The net.
    """
    kernels, biases = [], []
    for index in range(len(spec.convolutions)):
        norm = model.get_layer(f"norm_{index}")
        kernel, gamma, beta, mean, variance = (
            np.asarray(values, np.float64)
            for values in (
                model.get_layer(f"conv_{index}").kernel,
                norm.gamma,
                norm.beta,
                norm.moving_mean,
                norm.moving_variance,
            )
        )
        scale = gamma / np.sqrt(variance + norm.epsilon)
        kernels.append((kernel * scale).astype(np.float32))
        biases.append((beta - mean * scale).astype(np.float32))
    classifier = model.get_layer("classifier")
    kernels.append(np.asarray(classifier.kernel, np.float32))
    biases.append(np.asarray(classifier.bias, np.float32))
    return FoldedNet(spec, tuple(kernels), tuple(biases))


def apply_folded(
    spec: NetSpec, kernels: Sequence[tf.Tensor], biases: Sequence[tf.Tensor], images: tf.Tensor
) -> tf.Tensor:
    """Compute logits with the operations that TensorFlow fuses on a CPU: Conv2D, BiasAdd, Relu.

    Args:
        spec: The net.
        kernels: As in `FoldedNet`; arrays, tensors or variables.
        biases: Likewise.
        images: float32 [N, 48, 48, 1], grey levels 0 to 255.

    Returns:
        float32 [N, 7].
    """
    x = standardise(images)
    for conv, kernel, bias in zip(spec.convolutions, kernels, biases, strict=False):
        y = tf.nn.bias_add(tf.nn.conv2d(x, kernel, conv.stride, "SAME"), bias)
        x = tf.nn.relu(x + y if conv.residual else y)
    return tf.nn.bias_add(tf.matmul(tf.reduce_mean(x, [1, 2]), kernels[-1]), biases[-1])
