"""Computes teachers on TensorFlow: exported versions, and runs in their folded form."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ferserve_training.errors import RunError
from ferserve_training.nets.folded import apply_head, folded_features
from ferserve_training.nets.folding import FoldedNet


def version_teacher(folder: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    """Load an exported version as a teacher; see `load_teacher`.

    Raises:
        RunError: It cannot be read.
    """
    try:
        version = tf.saved_model.load(str(folder))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: cannot be read as an exported version ({error})") from error

    def answer(views: tf.Tensor) -> tf.Tensor:
        # Asked of the version each time, because it owns the variables that its signature reads.
        signature = version.signatures["serving_default"]
        return signature(faces=tf.cast(tf.round(views), tf.uint8))["logits"]

    return answer


def folded_teacher(folded: FoldedNet, precision: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Make a teacher of a folded net, which answers in half the time of its trainable form.

    Args:
        folded: The net.
        precision: What its maps are computed in, 'float32' or 'bfloat16'.
    """

    def answer(views: tf.Tensor) -> tf.Tensor:
        features = folded_features(folded.spec, folded.kernels, folded.biases, views, tf.as_dtype(precision))
        return apply_head(features, folded.kernels[-1], folded.biases[-1])

    return answer
