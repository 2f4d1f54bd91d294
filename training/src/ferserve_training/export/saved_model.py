"""Writes and loads the SavedModel that the server loads."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.errors import RunError
from ferserve_training.labels import FACE_SIZE
from ferserve_training.nets.folded import apply_head, folded_features
from ferserve_training.nets.folding import FoldedNet

INPUT_NAME: Final = "faces"
PROBABILITIES_NAME: Final = "probabilities"
LOGITS_NAME: Final = "logits"
NOT_A_FACE_NAME: Final = "not_a_face"
_BATCH: Final = 256

_Outputs = Callable[[tf.Tensor], dict[str, tf.Tensor]]
"""From grey levels, float32 [N, 48, 48, 1], to what is served, by name."""


def write_saved_model(net: FoldedNet | keras.Model, temperature: float, folder: Path) -> None:
    """Write a SavedModel whose `serving_default` takes raw faces.

    The signature maps `faces`, uint8 [None, 48, 48, 1], to `probabilities`, float32 [None, 7] (softmax of the
    logits over the temperature), and `logits`, float32 [None, 7] (before the temperature). A net with a
    head for it also gives `not_a_face`, float32 [None]: the probability that the image shows no face.

    Args:
        net: What to serve: a folded net, or a Keras model from grey levels to logits.
        temperature: Divides the logits; above 0.
        folder: Where; made if missing.
    """
    module = tf.Module()
    outputs_of = _folded_outputs(module, net) if isinstance(net, FoldedNet) else _model_outputs(module, net)

    def serve(faces: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = outputs_of(tf.cast(faces, tf.float32))
        return {PROBABILITIES_NAME: tf.nn.softmax(outputs[LOGITS_NAME] / temperature), **outputs}

    save_module(module, serve, folder)


def save_module(module: tf.Module, serve: Callable[[tf.Tensor], dict[str, tf.Tensor]], folder: Path) -> None:
    """Write a module as a SavedModel.

    Args:
        module: Owns the variables that `serve` reads.
        serve: From faces, uint8 [None, 48, 48, 1], to `probabilities` and `logits`: the signature
            `serving_default`.
        folder: Where; made if missing.
    """
    signature = tf.TensorSpec([None, FACE_SIZE, FACE_SIZE, 1], tf.uint8, name=INPUT_NAME)
    module.serve = tf.function(serve, input_signature=[signature])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    # An empty folder does not survive git, and a version must be the same wherever it lies.
    assets = folder / "assets"
    if assets.exists() and not any(assets.iterdir()):
        shutil.rmtree(assets)


def _folded_outputs(module: tf.Module, net: FoldedNet) -> _Outputs:
    """Give a folded net's function, its values owned by the module."""
    module.kernels = [
        tf.Variable(values, trainable=False, name=f"kernel_{i}") for i, values in enumerate(net.kernels)
    ]
    module.biases = [tf.Variable(values, trainable=False, name=f"bias_{i}") for i, values in enumerate(net.biases)]
    if net.vote_kernel is not None:
        module.vote_kernel = tf.Variable(net.vote_kernel, trainable=False, name="vote_kernel")
        module.vote_bias = tf.Variable(net.vote_bias, trainable=False, name="vote_bias")
    if net.not_a_face_kernel is not None:
        module.not_a_face_kernel = tf.Variable(net.not_a_face_kernel, trainable=False, name="not_a_face_kernel")
        module.not_a_face_bias = tf.Variable(net.not_a_face_bias, trainable=False, name="not_a_face_bias")

    def outputs_of(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = folded_features(net.spec, module.kernels, module.biases, images)
        outputs = {LOGITS_NAME: apply_head(features, module.kernels[-1], module.biases[-1])}
        if net.not_a_face_kernel is not None:
            logit = apply_head(features, module.not_a_face_kernel, module.not_a_face_bias)
            outputs[NOT_A_FACE_NAME] = tf.sigmoid(logit)[:, 0]
        return outputs

    return outputs_of


def _model_outputs(module: tf.Module, model: keras.Model) -> _Outputs:
    """Give a Keras model's function at inference, its variables owned by the module."""
    module.values = [variable.value for variable in model.variables]
    return lambda images: {LOGITS_NAME: model(images, training=False)}


Scores = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Outputs = dict[str, npt.NDArray[np.float32]]
"""What a version answers with, by name; one row a face each."""


def load_outputs(folder: Path) -> Callable[[npt.NDArray[np.uint8]], Outputs]:
    """Load a version from its files.

    Args:
        folder: The version.

    Returns:
        A function from faces, uint8 [N, 48, 48, 1], to all outputs; many faces are asked about in batches.

    Raises:
        RunError: The version has no SavedModel.
    """
    if not (folder / "saved_model.pb").is_file():
        raise RunError(f"{folder}: has no SavedModel; name the version that it was made of")
    loaded = tf.saved_model.load(str(folder))

    def run(faces: npt.NDArray[np.uint8]) -> Outputs:
        parts = [
            loaded.signatures["serving_default"](**{INPUT_NAME: tf.constant(faces[at : at + _BATCH])})
            for at in range(0, len(faces), _BATCH)
        ]
        return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}

    return run


def run_saved_model(folder: Path, faces: npt.NDArray[np.uint8]) -> Scores:
    """Load a version from its files and score faces with it.

    Args:
        folder: The version.
        faces: uint8 [N, 48, 48, 1].

    Returns:
        Probabilities and logits, float32 [N, 7] each.

    Raises:
        RunError: The version has no SavedModel.
    """
    outputs = load_outputs(folder)(faces)
    return outputs[PROBABILITIES_NAME], outputs[LOGITS_NAME]
