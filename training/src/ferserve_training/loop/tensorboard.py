"""Writes the curves of a run for TensorBoard, in `tensorboard/` of its folder."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ferserve_training.framework.choose import framework
from ferserve_training.loop.records import EpochRecord

OnEpoch = Callable[[EpochRecord, int], None]
"""Takes an epoch and the estimate of those still to come."""

FOLDER_NAME: Final = "tensorboard"
_TAGS: Final = MappingProxyType(
    {
        "loss": "loss/training",
        "public_test_loss": "loss/validation",
        "public_test_accuracy": "accuracy/validation",
        "learning_rate": "learning_rate",
        "seconds": "seconds",
    }
)


def with_tensorboard(run_folder: Path, then: OnEpoch) -> OnEpoch:
    """Write each epoch to an event file of this sitting, then tell `then` of it.

    A run that is resumed goes on in a second file, beginning with the epoch after the last checkpoint: an epoch is
    passed on once, after its checkpoint is written, so none comes twice.

    Args:
        run_folder: Of the run.
        then: The next observer.

    Returns:
        What writes and tells; only TensorFlow writes these files, so on JAX it is `then` itself.
    """
    if framework().NAME != "tensorflow":
        return then
    import tensorflow as tf  # noqa: PLC0415  # may not be there

    writer = tf.summary.create_file_writer(str(run_folder / FOLDER_NAME))
    # TensorFlow's own `scalar` lives in the package tensorboard, which is needed to look, not to write.
    kind = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class="DATA_CLASS_SCALAR",
    )

    def on_epoch(record: EpochRecord, epochs_left: int) -> None:
        with writer.as_default(step=record.epoch):
            for name, tag in _TAGS.items():
                value = getattr(record, name)
                if value is not None:
                    tf.summary.write(tag, tf.constant(value, tf.float32), metadata=kind)
        # A killed run keeps the epochs that it has finished.
        writer.flush()
        then(record, epochs_left)

    return on_epoch
