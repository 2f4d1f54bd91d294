"""Encodes faces and decodes scores in the formats of the peers."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from load.plan import Part
from loads import SIDE, golden_faces

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.interop.messages import message_class

if TYPE_CHECKING:
    import numpy.typing as npt

MODEL = "fer-nano"


def _name(face_count: int, callers: int) -> str:
    return f"{'1 face' if face_count == 1 else f'{face_count} faces'}, {callers} at once"


def open_inference(face_count: int, callers: int) -> Part:
    """Encodes ModelInfer of the Open Inference Protocol over gRPC, with raw contents."""
    request = message_class("inference.ModelInferRequest")(model_name=MODEL)
    request.inputs.add(name="faces", datatype="UINT8", shape=[face_count, SIDE, SIDE, 1])
    request.outputs.add(name="probabilities")
    request.raw_input_contents.append(golden_faces(face_count).tobytes())
    path = "/inference.GRPCInferenceService/ModelInfer"
    connections = min(4, callers)
    return Part(
        _name(face_count, callers), "unary", path, request.SerializeToString(), face_count, callers, connections
    )


def read_open_inference(reply: bytes) -> npt.NDArray[np.float32]:
    """Returns the scores of its answer, raw or not."""
    response = message_class("inference.ModelInferResponse").FromString(reply)
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(-1, 7)
    return np.asarray(response.outputs[0].contents.fp32_contents, np.float32).reshape(-1, 7)


def classify_faces(face_count: int, callers: int) -> Part:
    """Encodes ClassifyFaces of ferserve."""
    faces = emotion_pb2.ClassifyFacesRequest()
    faces.packed.pixels = golden_faces(face_count).tobytes()
    faces.packed.face_count = face_count
    path = "/ferserve.v1.EmotionService/ClassifyFaces"
    connections = min(4, callers)
    return Part(
        _name(face_count, callers), "unary", path, faces.SerializeToString(), face_count, callers, connections
    )


def read_classify_faces(reply: bytes) -> npt.NDArray[np.float32]:
    """Returns the scores of its answer."""
    response = emotion_pb2.ClassifyFacesResponse.FromString(reply)
    return np.asarray([result.prediction.scores for result in response.results], np.float32)


def octets(path: str, face_count: int, callers: int) -> Part:
    """Encodes faces as raw grey pixels."""
    body = golden_faces(face_count).tobytes()
    return Part(_name(face_count, callers), "http", path, body, face_count, callers, callers)


def read_octets(reply: bytes) -> npt.NDArray[np.float32]:
    """Decodes rows of float32."""
    return np.frombuffer(reply, np.float32).reshape(-1, 7)


def open_inference_http(face_count: int, callers: int) -> Part:
    """Encodes the Open Inference Protocol over HTTP, with binary tensors both ways."""
    body = golden_faces(face_count).tobytes()
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": "faces",
                "datatype": "UINT8",
                "shape": [face_count, SIDE, SIDE, 1],
                "parameters": {"binary_data_size": len(body)},
            }
        ],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    written = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(written))}
    name, path = _name(face_count, callers), f"/v2/models/{MODEL}/infer"
    return Part(name, "http", path, written + body, face_count, callers, callers, headers=headers)


def read_open_inference_http(reply: bytes) -> npt.NDArray[np.float32]:
    """Returns the rows that end the body: float32, as many as its JSON head says."""
    head, _ = json.JSONDecoder().raw_decode(reply.decode("latin-1"))
    count = head["outputs"][0]["shape"][0]
    return np.frombuffer(reply[-count * 7 * 4 :], np.float32).reshape(-1, 7)


def base64_whole(face_count: int, callers: int) -> Part:
    """Encodes all faces as one string of base64 in JSON, for LitServe."""
    body = json.dumps({"faces": base64.b64encode(golden_faces(face_count).tobytes()).decode()}).encode()
    return _json_part("/predict", body, face_count, callers)


def base64_each(face_count: int, callers: int) -> Part:
    """Encodes each face as base64 in JSON, for BentoML, which batches by the elements of a list."""
    faces = [base64.b64encode(face.tobytes()).decode() for face in golden_faces(face_count)]
    return _json_part("/classify", json.dumps({"faces": faces}).encode(), face_count, callers)


def _json_part(path: str, body: bytes, face_count: int, callers: int) -> Part:
    name = _name(face_count, callers)
    return Part(name, "http", path, body, face_count, callers, callers, content_type="application/json")


def read_json_rows(reply: bytes) -> npt.NDArray[np.float32]:
    """Decodes rows in JSON, bare or as `scores`."""
    found = json.loads(reply)
    return np.asarray(found["scores"] if isinstance(found, dict) else found, np.float32)
