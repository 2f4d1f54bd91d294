"""Nets that a run learns from: other runs, or exported versions."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ferserve_training.errors import RunError
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.trained import Trained, load_trained
from ferserve_training.nets.folding import apply_head, fold, folded_features
from ferserve_training.nets.spec import NetSpec

Teacher = Callable[[tf.Tensor], tf.Tensor]
"""From views, float32 [N, 48, 48, 1] grey levels, to logits, float32 [N, 7]."""


def load_teacher(folder: Path, precision: str = "float32") -> Teacher:
    """Load a teacher.

    Args:
        folder: Of a run, or of a version in a model repository.
        precision: What a run's maps are computed in, 'float32' or 'bfloat16'; the answers hardly change.

    Raises:
        RunError: It holds neither.
    """
    if (folder / "run.json").exists():
        return _run_teacher(load_trained(RunDirectory(folder)), precision)
    if not (folder / "saved_model.pb").exists():
        raise RunError(f"{folder}: holds neither a run nor an exported version to learn from")
    try:
        version = tf.saved_model.load(str(folder))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: cannot be read as an exported version ({error})") from error

    def answer(views: tf.Tensor) -> tf.Tensor:
        # Asked of the version each time, because it owns the variables that its signature reads.
        signature = version.signatures["serving_default"]
        return signature(faces=tf.cast(tf.round(views), tf.uint8))["logits"]

    return answer


def _run_teacher(trained: Trained, precision: str) -> Teacher:
    net = trained.recipe.net
    if not isinstance(net, NetSpec):
        return lambda views: trained.model(views, training=False)
    # Folded, a teacher answers in half the time of its trainable form.
    folded = fold(trained.model, net)

    def answer(views: tf.Tensor) -> tf.Tensor:
        features = folded_features(net, folded.kernels, folded.biases, views, tf.as_dtype(precision))
        return apply_head(features, folded.kernels[-1], folded.biases[-1])

    return answer
