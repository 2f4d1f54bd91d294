"""Reads warm-up files as TensorFlow Serving does: tensorflow_serving_warmup.py VERSION_DIR."""

import json
import sys

# A script beside this one has the name of the package that it needs.
sys.path.pop(0)

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

loaded = tf.saved_model.load(sys.argv[1])
found = []
for record in tf.data.TFRecordDataset(f"{sys.argv[1]}/assets.extra/tf_serving_warmup_requests"):
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    assert log.WhichOneof("log_type") == "predict_log"
    request = log.predict_log.request
    faces = tf.make_ndarray(request.inputs["faces"])
    scores = loaded.signatures[request.model_spec.signature_name](faces=tf.constant(faces))["probabilities"]
    assert np.allclose(np.sum(scores, axis=1), 1, atol=1e-5)
    found.append([request.model_spec.name, list(faces.shape)])

print(json.dumps(found))
