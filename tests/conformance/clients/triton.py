"""Runs Triton's Python client in one of its own environments: triton.py ADDRESS [together]."""

import json
import queue
import sys
from pathlib import Path

if "together" in sys.argv:
    pass

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

MODEL = "fer-nano"
PHOTOGRAPH = Path(__file__).parents[2] / "media" / "astronaut.jpg"
faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)


def pixels(array, datatype="UINT8"):
    tensor = triton.InferInput("faces", array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return [tensor]


def error_of(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return "none"


with triton.InferenceServerClient(sys.argv[1]) as client:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert "statistics" in client.get_server_metadata().extensions
    assert client.get_model_metadata(MODEL).inputs[0].name == "faces"
    assert client.get_model_config(MODEL).config.max_batch_size > 1
    assert client.get_model_repository_index().models[0].state == "READY"

    answer = client.infer(
        MODEL,
        pixels(faces),
        request_id="abc",
        priority=2,
        timeout=10_000_000,
        outputs=[
            triton.InferRequestedOutput("labels"),
            triton.InferRequestedOutput("probabilities", class_count=2),
        ],
    )
    assert answer.get_response().id == "abc"
    best = [row[0].decode().split(":")[2] for row in answer.as_numpy("probabilities")]
    assert best == [label.decode() for label in answer.as_numpy("labels")]
    assert answer.as_numpy("probabilities").shape == (3, 2)

    photograph = triton.InferInput("images", [1], "BYTES")
    photograph.set_data_from_numpy(np.array([PHOTOGRAPH.read_bytes()], np.object_))
    found = client.infer(MODEL, [photograph], parameters={"detect": True})
    (face_count,) = found.as_numpy("face_count")
    assert face_count >= 1
    assert found.as_numpy("boxes").shape == (face_count, 4)
    assert found.as_numpy("probabilities").shape == (face_count, 7)

    scores = client.infer(MODEL, pixels(faces)).as_numpy("probabilities")
    as_floats = client.infer(MODEL, pixels(faces.astype(np.float32), "FP32")).as_numpy("probabilities")
    assert np.allclose(scores, as_floats, atol=1e-6)

    answers = queue.Queue()
    client.async_infer(MODEL, pixels(faces), lambda result, error: answers.put(error or result))
    assert np.allclose(answers.get(timeout=30).as_numpy("probabilities"), scores, atol=1e-6)

    client.start_stream(lambda result, error: answers.put(error or result))
    for number in range(5):
        client.async_stream_infer(MODEL if number != 2 else "other", pixels(faces), request_id=str(number))
    streamed = [answers.get(timeout=30) for _ in range(5)]
    client.stop_stream()
    assert [isinstance(each, InferenceServerException) for each in streamed] == [False, False, True, False, False]
    assert [each.get_response().id for each in streamed if hasattr(each, "get_response")] == ["0", "1", "3", "4"]

    (stats,) = client.get_inference_statistics(MODEL).model_stats
    assert stats.inference_stats.success.count == stats.inference_stats.queue.count > 0

    assert error_of(lambda: client.infer("other", pixels(faces))) == "StatusCode.NOT_FOUND"
    assert error_of(lambda: client.infer(MODEL, pixels(faces[:, :47]))) == "StatusCode.INVALID_ARGUMENT"
    assert error_of(lambda: client.load_model(MODEL)) == "StatusCode.PERMISSION_DENIED"
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()

print(json.dumps(scores.tolist()))
