"""Tests that faces of a JPEG decoded reduced are given in pixels of the whole photograph, on each interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.interop.open_inference.tensors import join_elements
from ferserve_vision.formats.sniff import read_header
from ferserve_vision.reduction import reduction_for
from support.compat import ask, oip
from support.http import http_server
from support.pictures import encode, enlarged_astronaut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.http import HttpServer

SCALE = 6
SIDE = 512 * SCALE
Box = tuple[int, int, int, int]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


def _stored_lying() -> bytes:
    """As a phone held upright stores it."""
    return encode(np.ascontiguousarray(np.rot90(enlarged_astronaut(SCALE))), quality=90, orientation=6)


def _box(face: object) -> Box:
    return tuple(getattr(face, name) for name in ("left", "top", "width", "height"))


async def _by_analyze_images(server: HttpServer, photograph: bytes) -> tuple[int, int, Box]:
    request = emotion_pb2.AnalyzeImagesRequest(images=[photograph])
    (result,) = (await server.server.emotion.AnalyzeImages(request)).results
    (face,) = result.analysis.faces
    return result.analysis.width, result.analysis.height, _box(face.box)


async def _by_stream_frames(server: HttpServer, photograph: bytes) -> tuple[int, int, Box]:
    config = emotion_pb2.StreamFramesRequest(config=emotion_pb2.FrameStreamConfig())
    frame = emotion_pb2.StreamFramesRequest(frame=emotion_pb2.Frame(sequence_id=1, image=photograph))
    (answer,) = [answer async for answer in server.server.emotion.StreamFrames(iter([config, frame]))]
    (face,) = answer.analysis.faces
    return answer.analysis.width, answer.analysis.height, _box(face.box)


async def _by_http(server: HttpServer, photograph: bytes) -> tuple[int, int, Box]:
    (found,) = (await server.ask("/v1/analyze", photograph)).json["results"]
    (face,) = found["faces"]
    return found["width"], found["height"], tuple(face["box"].values())


async def _by_open_inference(server: HttpServer, photograph: bytes) -> tuple[int, int, Box]:
    request = oip("ModelInferRequest", model_name="fer-nano")
    request.inputs.add(name="images", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(join_elements([photograph]))
    request.parameters["detect"].bool_param = True
    response = await ask(server.server.channel, "ModelInfer", request)
    raw = dict(zip([output.name for output in response.outputs], response.raw_output_contents, strict=True))
    (box,) = np.frombuffer(raw["boxes"], "<i4").reshape(-1, 4).tolist()
    return SIDE, SIDE, tuple(box)  # it tells no sizes of pictures


@pytest.mark.parametrize("ask_for", [_by_analyze_images, _by_stream_frames, _by_http, _by_open_inference])
async def test_the_face_of_a_large_photograph_is_reported_in_its_own_pixels(server: HttpServer, ask_for) -> None:
    photograph = _stored_lying()
    assert reduction_for(read_header(photograph), side_pixels=480, min_face_pixels=16) == 2
    width, height, (left, top, across, down) = await ask_for(server, photograph)
    assert (width, height) == (SIDE, SIDE)
    assert 205 <= (left + across / 2) / SCALE <= 245
    assert 95 <= (top + down / 2) / SCALE <= 140
    assert 80 <= across / SCALE <= 150
