"""Nets that a run learns from: another run, or an exported version."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ferserve_training.errors import RunError
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.trained import load_trained

Teacher = Callable[[tf.Tensor], tf.Tensor]
"""From views, float32 [N, 48, 48, 1] grey levels, to logits, float32 [N, 7]."""


def load_teacher(folder: Path) -> Teacher:
    """Load a teacher.

    Args:
        folder: Of a run, or of a version in a model repository.

    Raises:
        RunError: It holds neither.
    """
    if (folder / "run.json").exists():
        model = load_trained(RunDirectory(folder)).model
        return lambda views: model(views, training=False)
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
