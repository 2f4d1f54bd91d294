"""Converts Open Inference requests and responses between HTTP and protobuf. Pure.

`interop.open_inference` defines the meaning of the messages; this module adds JSON and the location of binary
tensors. A request holds JSON and binary tensors, and a response is JSON, followed by binary tensors if the client
asks for them. Source: the protocol's REST document and Triton's binary tensor data extension.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from google.protobuf import json_format

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.http.responses import Reply, json_reply
from ferserve_server.interop import faces
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference.tensors import split_elements

if TYPE_CHECKING:
    from ferserve_server.interop.messages import Message


HEADER_LENGTH: Final = "Inference-Header-Content-Length"
"""Header with the length of a body's JSON in bytes; tensors follow in their memory layout."""

MAX_JSON_BYTES: Final = 2 * 2**20
"""Maximum JSON, some 200 faces, because parsing holds the interpreter for 10 to 20 ms a MiB of numbers;
binary tensors do not.
"""

SHORT_JSON_BYTES: Final = 16 * 1024
"""JSON up to this length is read on the event loop, in less than a millisecond; more of it on a thread."""

MAX_OBJECTS: Final = 1024
"""Maximum number of objects in a request. Counted in the text: building 700,000 of them takes seconds."""

MAX_LISTS: Final = 65_536
"""Maximum number of lists: 28 faces nested down to single pixels, any number of flat ones."""

_MAX_PARTS: Final = 64
"""Maximum number of inputs, outputs, dimensions, and parameters of one object. Requests have 1 to 4."""

_REQUEST = message_class("inference.ModelInferRequest")
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}


def parse_infer(body: bytes, header_length: str | None, name: str, version: str) -> Message:
    """Reads a body into a ModelInferRequest. All tensors become raw ones.

    Args:
        body: JSON, and binary tensors behind it.
        header_length: The header `HEADER_LENGTH`, if there.
        name: The model, out of the path.
        version: Its version, out of the path, or "".

    Raises:
        InvalidRequestError: JSON_TOO_LARGE, JSON_INVALID, HEADER_INVALID, TENSOR_LENGTH_MISMATCH or
            TENSOR_DATA_INVALID.
    """
    json_length = _json_length(header_length, len(body))
    document = _load(body[:json_length])
    inputs = _objects(document, "inputs")
    request = _REQUEST()
    skeleton = {
        "id": document.get("id", ""),
        "parameters": _parameters(document, "parameters"),
        "inputs": [
            {key: each[key] for key in ("name", "datatype", "shape") if key in each}
            | {"parameters": _parameters(each, "inputs.parameters")}
            for each in inputs
            if _bounded(each.get("shape"), "inputs.shape")
        ],
        "outputs": [
            {"name": each.get("name", ""), "parameters": _parameters(each, "outputs.parameters")}
            for each in _objects(document, "outputs")
        ],
    }
    try:
        json_format.ParseDict(skeleton, request)
    except json_format.ParseError as error:
        raise _bad_json(str(error)[:200]) from None
    request.model_name, request.model_version = name, version
    at = json_length
    for tensor, given in zip(request.inputs, inputs, strict=True):
        if "data" in given:
            request.raw_input_contents.append(_raw(tensor, given["data"]))
        length = _binary_size(tensor)
        if length is not None:
            request.raw_input_contents.append(body[at : at + length])
            at += length
    if at != len(body):
        raise InvalidRequestError(
            "TENSOR_LENGTH_MISMATCH",
            f"inputs: binary_data_size adds up to {at - json_length} bytes, behind the JSON are "
            f"{len(body) - json_length}.",
            field="inputs",
        )
    return request


def _json_length(header_length: str | None, body_length: int) -> int:
    length = body_length
    if header_length is not None:
        valid = header_length.isascii() and header_length.isdecimal() and len(header_length) <= 18
        length = int(header_length) if valid else 0
        if not 1 <= length <= body_length:
            raise InvalidRequestError(
                "HEADER_INVALID",
                f"{HEADER_LENGTH}: use a number of bytes from 1 to the body's length, {body_length}.",
                field=HEADER_LENGTH,
            )
    if length > MAX_JSON_BYTES:
        raise InvalidRequestError(
            "JSON_TOO_LARGE",
            f"{length} bytes of JSON are more than {MAX_JSON_BYTES}. Send tensors as binary data behind the "
            f"JSON (header {HEADER_LENGTH}, parameter binary_data_size).",
            field="",
        )
    return length


def _load(text: bytes) -> dict[str, Any]:
    for what, character, most in (("objects", b"{", MAX_OBJECTS), ("lists", b"[", MAX_LISTS)):
        count = text.count(character)  # also those within texts, which requests have no use for
        if count > most:
            raise InvalidRequestError(
                "JSON_TOO_MANY_PARTS",
                f"The JSON has {count} {what}; at most {most} are taken. Send tensors flat, or as binary data.",
                field="",
                value=count,
                limit=most,
            )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_json(f"it cannot be read ({str(error)[:80]})") from None
    if not isinstance(document, dict):
        raise _bad_json("it is no object")
    return document


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _bad_json(f"{name} is no list of objects")
    _bounded(found, name)
    return found


def _bounded(found: object, name: str) -> bool:
    """Rejects lists and objects of too many parts; returns True otherwise."""
    if isinstance(found, list | dict) and len(found) > _MAX_PARTS:
        raise _bad_json(f"{name} has {len(found)} parts; at most {_MAX_PARTS} are taken")
    return True


def _parameters(document: dict[str, Any], field: str) -> dict[str, dict[str, object]]:
    given = document.get("parameters", {})
    if not isinstance(given, dict):
        raise _bad_json(f"{field} is no object")
    _bounded(given, field)
    kinds = ((bool, "bool_param"), (int, "int64_param"), (float, "double_param"), (str, "string_param"))
    found: dict[str, dict[str, object]] = {}
    for name, value in given.items():
        kind = next((kind for python, kind in kinds if isinstance(value, python)), None)
        if kind is None:
            raise _bad_json(f"{field}.{name[:40]} is no text, number or truth value")
        found[name] = {kind: value}
    return found


def _raw(tensor: Message, data: object) -> bytes:
    """Converts a tensor's numbers, flat or nested, to raw bytes. The rules of tensors check the shape."""
    field = tensor.name[:40]
    if tensor.datatype == "BYTES":
        raise InvalidRequestError(
            "TENSOR_DATA_INVALID",
            f"{field}: JSON cannot hold encoded pictures; send them as binary data behind it (header "
            f"{HEADER_LENGTH}, parameter binary_data_size).",
            field=field,
        )
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        return b""  # rejected by its datatype
    try:
        numbers = np.array(data)
    except ValueError:  # lists of different lengths
        numbers = np.array("")
    # Texts and truth values would be read as numbers, and numbers out of range wrapped around.
    lowest, highest = (numbers.min(), numbers.max()) if numbers.size and numbers.dtype.kind in "iuf" else (0, 0)
    if numbers.size and (
        numbers.dtype.kind not in ("iu" if dtype.kind == "u" else "iuf")
        or (dtype.kind == "u" and not 0 <= lowest <= highest < 2**32)
    ):
        raise InvalidRequestError(
            "TENSOR_DATA_INVALID",
            f"{field}: data is no list of numbers of datatype {tensor.datatype}, flat or nested as the shape.",
            field=field,
        )
    if dtype.kind == "u":
        faces.check_grey_levels(float(lowest), float(highest), field)
    with np.errstate(over="ignore"):  # 1e300 becomes infinite, and is rejected as a pixel
        return numbers.astype(dtype).tobytes()


def _binary_size(tensor: Message) -> int | None:
    if "binary_data_size" not in tensor.parameters:
        return None
    size = int(tensor.parameters["binary_data_size"].int64_param)
    if size < 0:
        raise InvalidRequestError(
            "TENSOR_LENGTH_MISMATCH", "inputs: binary_data_size is below 0.", field="binary_data_size"
        )
    return size


def _bad_json(what: str) -> InvalidRequestError:
    return InvalidRequestError("JSON_INVALID", f"The body is not the JSON of this request: {what}.", field="")


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
    """Returns whether an output follows the JSON: its own `binary_data` overrides the request's."""
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
    """Writes a message as JSON, every field of it; protobuf's own JSON writes 64-bit numbers as texts."""
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
