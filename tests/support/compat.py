"""Builds and sends requests of other servers' interfaces, on the server's own private messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference.tensors import split_elements

if TYPE_CHECKING:
    import grpc

INFERENCE = "inference.GRPCInferenceService"
PREDICTION = "tensorflow.serving.PredictionService"
MODEL_STATUS = "tensorflow.serving.ModelService"


def oip(name: str, /, **fields: Any) -> Any:
    """A message of the Open Inference Protocol."""
    return message_class(f"inference.{name}")(**fields)


def tfs(name: str, /, **fields: Any) -> Any:
    """A message of TensorFlow Serving."""
    return message_class(f"tensorflow.serving.{name}")(**fields)


Metadata = tuple[tuple[str, str], ...]


async def call(
    channel: grpc.aio.Channel, service: str, method: str, request: Any, response: str, metadata: Metadata = ()
) -> Any:
    """Calls a unary method."""
    send = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class(response).FromString,
    )
    return await send(request, timeout=20, metadata=metadata)


async def ask(channel: grpc.aio.Channel, method: str, request: Any | None = None, metadata: Metadata = ()) -> Any:
    """Calls a unary method of the Open Inference Protocol; without a request with an empty one."""
    message = oip(f"{method}Request") if request is None else request
    return await call(channel, INFERENCE, method, message, f"inference.{method}Response", metadata)


def open_stream(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> Any:
    """Opens ModelStreamInfer."""
    return channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_class("inference.ModelStreamInferResponse").FromString,
    )(metadata=metadata, timeout=20)


def crops(*classes: int) -> np.ndarray:
    """Faces that `FakeServable` puts into these classes."""
    faces = np.zeros((len(classes), 48, 48, 1), np.uint8)
    faces[:, 0, 0, 0] = classes
    return faces


def infer_request(faces: np.ndarray, *, raw: bool = True, **fields: Any) -> Any:
    """A ModelInferRequest for pixels, uint8 or float32 of any shape."""
    request = oip("ModelInferRequest", **fields)
    datatype = {"uint8": "UINT8", "float32": "FP32"}[faces.dtype.name]
    tensor = request.inputs.add(name="faces", datatype=datatype, shape=faces.shape)
    if raw:
        request.raw_input_contents.append(faces.tobytes())
    elif datatype == "UINT8":
        tensor.contents.uint_contents.extend(faces.ravel().tolist())
    else:
        tensor.contents.fp32_contents.extend(faces.ravel().tolist())
    return request


def labels_of(response: Any) -> list[str]:
    """The labels of a ModelInferResponse that holds them."""
    names = [output.name for output in response.outputs]
    at = names.index("labels")
    raw = response.raw_output_contents[at]
    return [each.decode() for each in split_elements(raw, response.outputs[at].shape[0], "labels")]
