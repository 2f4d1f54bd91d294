"""Runs Triton's Python client over HTTP in one of its own environments: triton_http.py ADDRESS."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

MODEL = "fer-nano"
faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)


def pixels(array, datatype="UINT8", *, binary=True):
    tensor = triton.InferInput("faces", array.shape, datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def error_of(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return "none"


with triton.InferenceServerClient(sys.argv[1], concurrency=2) as client:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL)["inputs"][0]["name"] == "faces"
    assert client.get_model_config(MODEL)["max_batch_size"] > 1
    assert client.get_model_repository_index()[0]["state"] == "READY"

    answer = client.infer(
        MODEL,
        pixels(faces),
        request_id="abc",
        priority=2,
        timeout=10_000_000,
        outputs=[
            triton.InferRequestedOutput("labels", binary_data=False),
            triton.InferRequestedOutput("probabilities", class_count=2),
        ],
    )
    assert answer.get_response()["id"] == "abc"
    best = [row[0].decode().split(":")[2] for row in answer.as_numpy("probabilities")]
    assert best == list(answer.as_numpy("labels"))
    assert answer.as_numpy("probabilities").shape == (3, 2)

    scores = client.infer(MODEL, pixels(faces)).as_numpy("probabilities")
    as_floats = client.infer(MODEL, pixels(faces.astype(np.float32), "FP32")).as_numpy("probabilities")
    as_json = client.infer(MODEL, pixels(faces, binary=False)).as_numpy("probabilities")
    compressed = client.infer(MODEL, pixels(faces), request_compression_algorithm="gzip").as_numpy("probabilities")
    for same in (as_floats, as_json, compressed):
        assert np.allclose(scores, same, atol=1e-6)
    later = client.async_infer(MODEL, pixels(faces))
    assert np.allclose(later.get_result().as_numpy("probabilities"), scores, atol=1e-6)

    (stats,) = client.get_inference_statistics(MODEL)["model_stats"]
    assert stats["inference_stats"]["success"]["count"] > 0

    assert error_of(lambda: client.infer("other", pixels(faces))) == "404"
    assert error_of(lambda: client.infer(MODEL, pixels(faces[:, :47]))) == "400"

print(json.dumps(scores.tolist()))
