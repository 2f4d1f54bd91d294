"""A message of the Open Inference Protocol as JSON, and tensors behind it where they are asked for so. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ferserve_server.transport.http.infer_request import HEADER_LENGTH
from ferserve_server.transport.http.reply import Reply, json_reply
from ferserve_server.transport.oip.tensors import split_elements

if TYPE_CHECKING:
    from ferserve_server.transport.compat.messages import Message


def infer_reply(request: Message, response: Message) -> Reply:
    """Writes the answer to an inference request.

    Args:
        request: The ModelInferRequest, which says what is to be binary.
        response: The ModelInferResponse.
    """
    outputs: list[dict[str, object]] = []
    behind: list[bytes] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        written: dict[str, object] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if is_binary(request, output.name):
            written["parameters"] = {"binary_data_size": len(raw)}
            behind.append(raw)
        else:
            written["data"] = _numbers_or_texts(output, raw)
        outputs.append(written)
    document = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    if not behind:
        return json_reply({**document, "outputs": outputs})
    head = json.dumps({**document, "outputs": outputs}).encode()
    return Reply(
        b"".join((head, *behind)),
        content_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(head))},
    )


def is_binary(request: Message, output_name: str) -> bool:
    """Whether an output is to stand behind the JSON: its own word, `binary_data`, counts before the request's."""
    for output in request.outputs:
        if output.name == output_name and "binary_data" in output.parameters:
            return bool(output.parameters["binary_data"].bool_param)
    parameters = request.parameters
    return "binary_data_output" in parameters and bool(parameters["binary_data_output"].bool_param)


def _numbers_or_texts(output: Message, raw: bytes) -> list[float] | list[str]:
    if output.datatype == "BYTES":
        count = int(np.prod(list(output.shape)))
        return [each.decode() for each in split_elements(raw, count, output.name)]
    dtype = "<i4" if output.datatype == "INT32" else "<f4"
    numbers: list[float] = np.frombuffer(raw, dtype).tolist()
    return numbers


def as_document(message: Message) -> dict[str, Any]:
    """A message as JSON, every field of it; protobuf's own JSON writes 64-bit numbers as texts."""
    return {field.name: _value(getattr(message, field.name), field) for field in message.DESCRIPTOR.fields}


def _value(value: Any, field: Any) -> Any:  # noqa: ANN401 - as the fields of these messages
    if hasattr(value, "items"):
        return {key: _value(each, field) for key, each in value.items()}
    if isinstance(value, (str, bool, int, float)):
        enum = field.enum_type
        return value if enum is None else enum.values_by_number[value].name
    if not hasattr(value, "DESCRIPTOR"):
        return [_value(each, field) for each in value]
    if value.DESCRIPTOR.full_name == "inference.InferParameter":
        choice = value.WhichOneof("parameter_choice")
        return None if choice is None else getattr(value, choice)
    return as_document(value)
