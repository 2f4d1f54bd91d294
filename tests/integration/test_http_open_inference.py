"""Tests the REST form of the Open Inference Protocol over a real socket: same faces, scores, errors as gRPC."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.compat import ask, crops, infer_request
from support.http import Answer, BlockingLoader, http_server
from support.model_factory import LABELS
from support.pictures import ASTRONAUT, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.http import HttpServer

INFER = "/v2/models/fer-nano/infer"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


def _pixels(*classes: int, **changes: Any) -> dict[str, Any]:
    faces = crops(*classes)
    return {"name": "faces", "datatype": "UINT8", "shape": list(faces.shape), "data": faces.tolist()} | changes


async def _infer(server: HttpServer, document: object, *behind: bytes, path: str = INFER) -> Answer:
    head = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))} if behind else {}
    return await server.ask(path, b"".join((head, *behind)), headers=headers)


async def test_faces_are_classified_as_over_grpc(server: HttpServer) -> None:
    answer = (await _infer(server, {"id": "a", "inputs": [_pixels(3, 0, 6)]})).json
    reported = await ask(server.server.channel, "ModelInfer", infer_request(crops(3, 0, 6)))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("fer-nano", "1", "a")
    scores, labels = answer["outputs"]
    assert scores["shape"] == [3, 7]
    assert scores["data"] == np.frombuffer(reported.raw_output_contents[0], "<f4").tolist()
    assert labels["data"] == [LABELS[3], LABELS[0], LABELS[6]]


async def test_tensors_may_be_binary_both_ways(server: HttpServer) -> None:
    faces = crops(5, 2).tobytes()
    tensor = _pixels(5, 2, parameters={"binary_data_size": len(faces)})
    del tensor["data"]
    answer = await _infer(server, {"parameters": {"binary_data_output": True}, "inputs": [tensor]}, faces)
    head = int(answer.headers["Inference-Header-Content-Length"])
    scores, labels = json.loads(answer.body[:head])["outputs"]
    length = scores["parameters"]["binary_data_size"]
    assert np.frombuffer(answer.body[head : head + length], "<f4").reshape(2, 7).argmax(axis=1).tolist() == [5, 2]
    assert len(answer.body) == head + length + labels["parameters"]["binary_data_size"]


async def test_encoded_crops_are_classified(server: HttpServer) -> None:
    png = encode(crops(5)[0, :, :, 0], "PNG")
    element = len(png).to_bytes(4, "little") + png
    tensor = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"binary_data_size": 2 * len(element)},
    }
    answer = (await _infer(server, {"inputs": [tensor], "outputs": [{"name": "labels"}]}, element * 2)).json
    assert answer["outputs"][0]["data"] == [LABELS[5]] * 2


async def test_faces_of_whole_pictures_are_found_where_that_is_asked_for(server: HttpServer) -> None:
    wall, photograph = encode(np.full((300, 400), 90, np.uint8)), ASTRONAUT.read_bytes()
    elements = b"".join(len(each).to_bytes(4, "little") + each for each in (wall, photograph))
    tensor = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"binary_data_size": len(elements)},
    }
    answer = (await _infer(server, {"parameters": {"detect": True}, "inputs": [tensor]}, elements)).json
    outputs = {output["name"]: output for output in answer["outputs"]}
    none, found = outputs["face_count"]["data"]
    assert none == 0
    assert found >= 1
    assert outputs["probabilities"]["shape"] == [found, 7]
    assert outputs["boxes"]["shape"] == [found, 4]
    left, top, width, height = outputs["boxes"]["data"][:4]
    # Her face, in the photograph of 512 x 512.
    assert left < 220 < left + width <= 512
    assert top < 110 < top + height <= 512


async def test_what_is_no_picture_cannot_be_searched_for_faces(server: HttpServer) -> None:
    document = {"parameters": {"detect": True}, "inputs": [_pixels(1)]}
    assert (await _infer(server, document)).status == 400


async def test_classes_are_reported_as_text(server: HttpServer) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 1}}]
    answer = (await _infer(server, {"inputs": [_pixels(4)], "outputs": outputs})).json
    assert answer["outputs"][0]["data"] == [f"0.700000:4:{LABELS[4]}"]


async def test_models_and_the_server_are_described(server: HttpServer) -> None:
    about = (await server.ask("/v2")).json
    assert (about["name"], "binary_tensor_data" in about["extensions"]) == ("ferserve", True)
    for path in ("/v2/models/fer-nano", "/v2/models/fer-nano/versions/1"):
        metadata = (await server.ask(path)).json
        assert (metadata["name"], metadata["versions"]) == ("fer-nano", ["1"])
        assert metadata["inputs"][0]["shape"] == [-1, 48, 48, 1]
        assert (await server.ask(f"{path}/ready")).status == 200
        assert (await server.ask(f"{path}/config")).json["max_batch_size"] == 512
        assert (await _infer(server, {"inputs": [_pixels(1)]}, path=f"{path}/infer")).status == 200
        (stats,) = (await server.ask(f"{path}/stats")).json["model_stats"]
        assert stats["inference_stats"]["success"]["count"] >= 1
    assert (await server.ask("/v2/models/stats")).json["model_stats"][0]["name"] == "fer-nano"
    (indexed,) = (await server.ask("/v2/repository/index", b"{}")).json
    assert (indexed["name"], indexed["state"]) == ("fer-nano", "READY")


@pytest.mark.parametrize(
    ("path", "document", "rejection"),
    [
        (INFER, {}, (400, "INPUT_INVALID")),
        (INFER, {"inputs": [_pixels(1), _pixels(1)]}, (400, "INPUT_INVALID")),
        (INFER, {"inputs": [_pixels(1, shape=[1, 47, 48])]}, (400, "TENSOR_SHAPE_INVALID")),
        (INFER, {"inputs": [_pixels(1, data=[1, 2])]}, (400, "TENSOR_LENGTH_MISMATCH")),
        (INFER, {"inputs": [_pixels(1, data=[256] * 2304)]}, (400, "GREY_LEVEL_INVALID")),
        (INFER, {"inputs": [_pixels(1, datatype="INT8")]}, (400, "TENSOR_TYPE_INVALID")),
        (INFER, {"inputs": [_pixels(1)], "outputs": [{"name": "logits"}]}, (400, "OUTPUT_INVALID")),
        (INFER, [], (400, "JSON_INVALID")),
        (INFER + "?timeout=5", {}, (400, "OPTION_UNKNOWN")),
        ("/v2/models/other/infer", {"inputs": [_pixels(1)]}, (404, "MODEL_NOT_FOUND")),
        ("/v2/models/fer-nano/versions/9/infer", {"inputs": [_pixels(1)]}, (404, "VERSION_NOT_FOUND")),
        ("/v2/models/fer-nano/versions/x/infer", {"inputs": [_pixels(1)]}, (404, "ALIAS_NOT_FOUND")),
        ("/v2/models/fer-nano/versions/0/infer", {"inputs": [_pixels(1)]}, (400, "OPTION_OUT_OF_RANGE")),
    ],
)
async def test_what_cannot_be_answered_has_its_status_and_reason(
    server: HttpServer, path: str, document: object, rejection: tuple[int, str]
) -> None:
    assert (await _infer(server, document, path=path)).rejection == rejection


async def test_a_model_that_is_not_there_is_not_ready(server: HttpServer) -> None:
    for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/models/other/config"):
        assert (await server.ask(path)).rejection == (404, "MODEL_NOT_FOUND")


async def test_a_caller_who_waits_no_longer_gets_504(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with http_server(tmp_path, loader) as server:
        loader.unblocked.clear()
        answer = await _infer(server, {"inputs": [_pixels(1)]}, path=INFER + "?timeout_ms=300")
        assert answer.rejection == (504, "DEADLINE_EXPIRED")
        loader.unblocked.set()


async def test_it_is_turned_off_with_its_grpc_form(tmp_path: Path) -> None:
    async with http_server(tmp_path, open_inference=False) as server:
        assert (await server.ask("/v2")).rejection == (404, "PATH_NOT_FOUND")
        assert (await server.ask("/readyz")).status == 200
