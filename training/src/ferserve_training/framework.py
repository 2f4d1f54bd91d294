"""TensorFlow as the commands want it: modest with threads, and named in the records."""

import keras
import tensorflow as tf


def limit_threads(count: int) -> None:
    """Let TensorFlow compute with `count` threads; only before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def versions() -> str:
    """Name what computes, for the records: `tensorflow 2.21.0, keras 3.15.1`."""
    return f"tensorflow {tf.__version__}, keras {keras.__version__}"
