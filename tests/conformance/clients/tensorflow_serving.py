"""Runs the calls of a TensorFlow Serving client: tensorflow_serving.py ADDRESS."""

import json
import sys

# This script has the name of the package that it needs.
sys.path.pop(0)

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
with grpc.insecure_channel(sys.argv[1]) as channel:
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "fer-nano"
    request.model_spec.signature_name = "serving_default"
    request.inputs["faces"].CopyFrom(tf.make_tensor_proto(faces))
    response = predictions.Predict(request, timeout=30)
    scores = tf.make_ndarray(response.outputs["probabilities"])
    assert scores.shape == (3, 7)
    assert tf.make_ndarray(response.outputs["labels"]).shape == (3,)
    assert response.model_spec.version.value == 1

    wanted = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    wanted.model_spec.name = "fer-nano"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert predictions.GetModelMetadata(wanted).metadata["signature_def"].Unpack(signatures)
    assert "faces" in signatures.signature_def["serving_default"].inputs

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "fer-nano"
    (version,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status).model_version_status
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE

print(json.dumps(scores.tolist()))
