"""Folds batch norm into the convolutions, which makes the form that is served."""

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from ferserve_training.nets.spec import NetSpec


@dataclass(frozen=True, slots=True)
class FoldedNet:
    """Holds a net as kernels and biases.

    Attributes:
        spec: The net.
        kernels: Of the convolutions, float32 [3, 3, in, out], and last of the classifier, float32 [in, 7].
        biases: Of each, float32 [out].
        vote_kernel: Of the head for FER+'s votes, float32 [in, 10], or None where there is no such head.
        vote_bias: Likewise, float32 [10].
        not_a_face_kernel: Of the head for images that are no faces, float32 [in, 1], or None.
        not_a_face_bias: Likewise, float32 [1].
    """

    spec: NetSpec
    kernels: tuple[npt.NDArray[np.float32], ...]
    biases: tuple[npt.NDArray[np.float32], ...]
    vote_kernel: npt.NDArray[np.float32] | None = None
    vote_bias: npt.NDArray[np.float32] | None = None
    not_a_face_kernel: npt.NDArray[np.float32] | None = None
    not_a_face_bias: npt.NDArray[np.float32] | None = None


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
    return FoldedNet(spec, tuple(kernels), tuple(biases), *_head(model, "votes"), *_head(model, "not_a_face"))


def _head(model: keras.Model, name: str) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]:
    """Give the kernel and the bias of a head; None each where the net has no such head."""
    if name not in [layer.name for layer in model.layers]:
        return None, None
    head = model.get_layer(name)
    return np.asarray(head.kernel, np.float32), np.asarray(head.bias, np.float32)
