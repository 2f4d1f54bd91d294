"""Reads an exported version back as the values that it was written from."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from ferserve_training.errors import RunError
from ferserve_training.nets.folding import FoldedNet
from ferserve_training.nets.spec import NetSpec


def read_folded(folder: Path, spec: NetSpec) -> FoldedNet:
    """Read the kernels and biases of a version that `write_saved_model` wrote from a folded net.

    Args:
        folder: The version.
        spec: What net it is expected to be.

    Raises:
        RunError: It cannot be read, was not written from a folded net, or holds another net.
    """
    try:
        module = tf.saved_model.load(str(folder))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: cannot be read as an exported version ({error})") from error
    if not hasattr(module, "kernels") or not hasattr(module, "biases"):
        raise RunError(f"{folder}: was not written from a net of convolutions")
    kernels, biases = (tuple(np.asarray(value) for value in part) for part in (module.kernels, module.biases))
    channels = 1
    wanted = []
    for conv in spec.convolutions:
        wanted.append((3, 3, channels, conv.channels))
        channels = conv.channels
    if [kernel.shape for kernel in kernels[:-1]] != wanted:
        raise RunError(f"{folder}: holds another net; train the recipe that it was made from")
    heads = {
        name: np.asarray(getattr(module, name))
        for name in ("vote_kernel", "vote_bias", "not_a_face_kernel", "not_a_face_bias")
        if hasattr(module, name)
    }
    return FoldedNet(spec, kernels, biases, **heads)
