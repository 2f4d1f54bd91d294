"""Tests conversion of inference requests from JSON and binary tensors, and of answers back into them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.domain.servable import ServableId
from ferserve_server.http.infer_codec import (
    HEADER_LENGTH,
    MAX_JSON_BYTES,
    as_document,
    infer_reply,
    parse_infer,
)
from ferserve_server.interop.open_inference.metadata import format_metadata
from ferserve_server.interop.open_inference.outputs import format_response, parse_outputs
from support.fake_models import DESCRIPTION
from support.model_factory import LABELS

PIXELS = np.arange(2 * 4, dtype=np.uint8).reshape(2, 2, 2)


def _tensor(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "faces", "datatype": "UINT8", "shape": [2, 2, 2], "data": PIXELS.tolist()} | changes
    return {name: value for name, value in tensor.items() if value is not None}


def _parse(document: object, behind: bytes = b"", header: str | None = "right") -> Any:
    head = json.dumps(document).encode()
    return parse_infer(head + behind, str(len(head)) if header == "right" else header, "fer-nano", "")


def _rejected(document: object, behind: bytes = b"", header: str | None = "right") -> str:
    with pytest.raises(InvalidRequestError) as caught:
        _parse(document, behind, header)
    return caught.value.reason


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()], ids=["nested", "flat"])
def test_numbers_are_read_nested_or_flat(data: list) -> None:
    request = _parse({"id": "a", "inputs": [_tensor(data=data)]}, header=None)
    (tensor,) = request.inputs
    assert (request.model_name, request.id, list(tensor.shape)) == ("fer-nano", "a", [2, 2, 2])
    assert list(request.raw_input_contents) == [PIXELS.tobytes()]
    assert not tensor.HasField("contents")


def test_fractions_are_read_as_float32() -> None:
    request = _parse({"inputs": [_tensor(datatype="FP32", data=[0.5, 1, 255])]})
    assert np.frombuffer(request.raw_input_contents[0], "<f4").tolist() == [0.5, 1.0, 255.0]


def test_binary_tensors_are_taken_from_behind_the_json() -> None:
    sized = _tensor(data=None, parameters={"binary_data_size": 8})
    request = _parse({"inputs": [sized]}, PIXELS.tobytes())
    assert list(request.raw_input_contents) == [PIXELS.tobytes()]


def test_parameters_keep_their_types() -> None:
    given = {"priority": 2, "binary_data_output": True, "x": 0.5, "y": "z"}
    request = _parse({"parameters": given, "inputs": [_tensor()], "outputs": [{"name": "labels"}]})
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in request.parameters.items()}
    assert chosen == {
        "priority": "int64_param",
        "binary_data_output": "bool_param",
        "x": "double_param",
        "y": "string_param",
    }
    assert [each.name for each in request.outputs] == ["labels"]


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {"inputs": {}},
        {"inputs": ["faces"]},
        {"inputs": [_tensor(shape="many")]},
        {"inputs": [_tensor(shape=[1.5])]},
        {"inputs": [_tensor(name=5)]},
        {"inputs": [_tensor(shape=[2**70])]},
        {"inputs": [_tensor(parameters=[])]},
        {"inputs": [_tensor(parameters={"x": []})]},
        {"inputs": [_tensor(parameters={"x": 2**70})]},
        {"outputs": "labels"},
        {"id": 5},
    ],
    ids=str,
)
def test_json_of_another_form_is_rejected(document: object) -> None:
    assert _rejected(document) == "JSON_INVALID"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b'{"inputs": 1e'])
def test_what_is_no_json_is_rejected(text: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_infer(text, None, "", "")
    assert caught.value.reason == "JSON_INVALID"


@pytest.mark.parametrize(
    "data",
    [["1"], [True], [-1], [2**40], [2**70], [0.5], [[1], [1, 2]], None, {"x": 1}, "1"],
    ids=str,
)
def test_data_that_are_no_numbers_of_the_datatype_are_rejected(data: object) -> None:
    assert _rejected({"inputs": [_tensor() | {"data": data}]}) == "TENSOR_DATA_INVALID"


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs": [' + b",".join([b"{}"] * 300_000) + b"]}",
        b'{"outputs": [' + b",".join([b"{}"] * 300_000) + b"]}",
        b'{"inputs": [{"data": [' + b",".join([b"[]"] * 300_000) + b"]}]}",
        b"[" * 100_000,
    ],
    ids=["inputs", "outputs", "lists", "depth"],
)
def test_requests_of_many_tiny_parts_are_rejected_by_their_count(text: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_infer(text, None, "", "")
    assert caught.value.reason == "JSON_TOO_MANY_PARTS"


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [{}] * 65},
        {"outputs": [{}] * 65},
        {"inputs": [_tensor(shape=[1] * 65)]},
        {"parameters": {str(number): 1 for number in range(65)}},
        {"inputs": [_tensor(parameters={str(number): 1 for number in range(65)})]},
    ],
    ids=["inputs", "outputs", "shape", "parameters", "parameters of an input"],
)
def test_more_than_64_parts_are_rejected_before_they_are_built(document: object) -> None:
    with pytest.raises(InvalidRequestError, match="at most 64"):
        _parse(document)


def test_a_grey_level_that_is_none_is_reported_as_in_binary_tensors() -> None:
    assert _rejected({"inputs": [_tensor(data=[256] * 8)]}) == "GREY_LEVEL_INVALID"


def test_encoded_pictures_cannot_stand_in_json() -> None:
    images = _tensor(name="images", datatype="BYTES", shape=[1], data=["x"])
    assert _rejected({"inputs": [images]}) == "TENSOR_DATA_INVALID"


@pytest.mark.parametrize("size", [7, 9, -1, 2**40])
def test_binary_sizes_that_do_not_add_up_are_rejected(size: int) -> None:
    sized = _tensor(data=None, parameters={"binary_data_size": size})
    assert _rejected({"inputs": [sized]}, PIXELS.tobytes()) == "TENSOR_LENGTH_MISMATCH"


@pytest.mark.parametrize("header", ["0", "-1", "many", "99999", "1" * 30, "٣"])
def test_a_length_of_the_json_that_cannot_be_is_rejected(header: str) -> None:
    assert _rejected({}, header=header) == "HEADER_INVALID"


def test_long_json_is_rejected_and_long_tensors_are_not() -> None:
    assert _rejected({"id": "x" * MAX_JSON_BYTES}) == "JSON_TOO_LARGE"
    sized = _tensor(data=None, parameters={"binary_data_size": MAX_JSON_BYTES})
    assert len(_parse({"inputs": [sized]}, bytes(MAX_JSON_BYTES)).raw_input_contents[0]) == MAX_JSON_BYTES


SCORES = np.eye(7, dtype=np.float32)[[3, 0]]
FOUND = Classification(ScoredFaces(SCORES), LABELS, ServableId("fer-nano", 4))


def _answer(**document: Any) -> tuple[dict[str, Any], bytes]:
    request = _parse({"inputs": [_tensor()], **document})
    reply = infer_reply(request, format_response(request.id, parse_outputs(request), FOUND))
    head = int(reply.headers.get(HEADER_LENGTH, len(reply.body)))
    assert (reply.content_type == "application/json") == (HEADER_LENGTH not in reply.headers)
    return json.loads(reply.body[:head]), reply.body[head:]


def test_outputs_are_numbers_and_texts_unless_asked_for_as_binary() -> None:
    document, behind = _answer(id="a")
    assert (document["model_name"], document["model_version"], document["id"]) == ("fer-nano", "4", "a")
    scores, labels = document["outputs"]
    assert (scores["datatype"], scores["shape"]) == ("FP32", [2, 7])
    assert scores["data"] == SCORES.ravel().tolist()
    assert labels["data"] == [LABELS[3], LABELS[0]]
    assert behind == b""


def test_an_outputs_own_word_counts_before_the_requests() -> None:
    document, behind = _answer(
        parameters={"binary_data_output": True},
        outputs=[{"name": "labels", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
    )
    labels, scores = document["outputs"]
    assert labels["data"] == [LABELS[3], LABELS[0]]
    assert scores["parameters"] == {"binary_data_size": len(behind)}
    assert behind == SCORES.tobytes()


def test_a_message_is_written_with_numbers_as_numbers() -> None:
    document = as_document(format_metadata(ServableId("fer-nano", 4), [4], DESCRIPTION))
    assert document["inputs"][0]["shape"] == [-1, 48, 48, 1]
    assert document["versions"] == ["4"]
    assert document["parameters"] == {"labels": ",".join(LABELS)}
