"""The SavedModel that the server loads."""

import shutil
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.labels import FACE_SIZE
from ferserve_training.nets.folding import FoldedNet, apply_folded

INPUT_NAME: Final = "faces"
PROBABILITIES_NAME: Final = "probabilities"
LOGITS_NAME: Final = "logits"


def write_saved_model(net: FoldedNet, temperature: float, folder: Path) -> None:
    """Write a SavedModel whose `serving_default` takes raw faces.

    The signature maps `faces`, uint8 [None, 48, 48, 1], to `probabilities`, float32 [None, 7] (softmax of the
    logits over the temperature), and `logits`, float32 [None, 7] (before the temperature).

    Args:
        net: What to serve.
        temperature: Divides the logits; above 0.
        folder: Where; made if missing.
    """
    module = tf.Module()
    module.kernels = [
        tf.Variable(values, trainable=False, name=f"kernel_{i}") for i, values in enumerate(net.kernels)
    ]
    module.biases = [tf.Variable(values, trainable=False, name=f"bias_{i}") for i, values in enumerate(net.biases)]

    def serve(faces: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = apply_folded(net.spec, module.kernels, module.biases, tf.cast(faces, tf.float32))
        return {PROBABILITIES_NAME: tf.nn.softmax(logits / temperature), LOGITS_NAME: logits}

    signature = tf.TensorSpec([None, FACE_SIZE, FACE_SIZE, 1], tf.uint8, name=INPUT_NAME)
    module.serve = tf.function(serve, input_signature=[signature])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    # An empty folder does not survive git, and a version must be the same wherever it lies.
    assets = folder / "assets"
    if assets.exists() and not any(assets.iterdir()):
        shutil.rmtree(assets)


def run_saved_model(
    folder: Path, faces: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Load a version anew and score faces with it.

    Args:
        folder: The version.
        faces: uint8 [N, 48, 48, 1].

    Returns:
        Probabilities and logits, float32 [N, 7] each.
    """
    loaded = tf.saved_model.load(str(folder))
    outputs = loaded.signatures["serving_default"](**{INPUT_NAME: tf.constant(faces)})
    return np.asarray(outputs[PROBABILITIES_NAME]), np.asarray(outputs[LOGITS_NAME])
