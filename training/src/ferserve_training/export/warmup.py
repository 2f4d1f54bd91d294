"""Writes `assets.extra/tf_serving_warmup_requests`, which TensorFlow Serving makes of a version that it loads.

The file is a TFRecord of `tensorflow.serving.PredictionLog`
(https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

from pathlib import Path
from typing import Final

import tensorflow as tf

from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.prediction_log import prediction_log
from ferserve_training.export.saved_model import INPUT_NAME

WARMUP_PATH: Final = "assets.extra/tf_serving_warmup_requests"
BATCH_SIZES: Final = (1, 8, 32)
"""Faces of each request: alone, a few, and a full batch of the server's default."""


def write_warmup_requests(model_name: str, path: Path) -> None:
    """Write one request of drawn faces for each of `BATCH_SIZES`.

    Args:
        model_name: That the requests name.
        path: Where; its folder must exist.
    """
    faces = draw_faces(max(BATCH_SIZES))
    with tf.io.TFRecordWriter(str(path)) as file:
        for count in BATCH_SIZES:
            tensor: bytes = tf.make_tensor_proto(faces[:count]).SerializeToString()
            file.write(prediction_log(model_name, INPUT_NAME, tensor))
