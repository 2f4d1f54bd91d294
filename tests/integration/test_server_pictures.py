"""Tests AnalyzeImages on real pictures: good ones are read, bad ones fail alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from support.fake_models import publish_fake
from support.local_server import LocalServer, local_server
from support.pictures import (
    ASTRONAUT,
    astronaut,
    bomb_png,
    corner_mark,
    encode,
    turned_astronaut,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WHOLE = face_pb2.DetectionOptions(face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE)
FACE_CENTRE = (222, 115)
"""Middle of the astronaut's face, in pixels from left and top."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path)
    async with local_server(tmp_path) as running:
        yield running


async def _analyze(server: LocalServer, *images: bytes, **rest: object) -> list[emotion_pb2.ImageResult]:
    response = await server.emotion.AnalyzeImages(emotion_pb2.AnalyzeImagesRequest(images=images, **rest))
    assert len(response.results) == len(images)
    return list(response.results)


def _holds_the_face(face: face_pb2.DetectedFace) -> bool:
    across, down = FACE_CENTRE
    box = face.box
    return box.left < across < box.left + box.width and box.top < down < box.top + box.height


def _colour(grey: np.ndarray, channels: int) -> np.ndarray:
    return np.repeat(grey[..., np.newaxis], channels, axis=2)


async def test_the_face_of_a_portrait_is_found_and_classified(server: LocalServer) -> None:
    (result,) = await _analyze(server, ASTRONAUT.read_bytes())
    assert (result.analysis.width, result.analysis.height) == (512, 512)
    assert _holds_the_face(result.analysis.faces[0])
    assert len(result.analysis.faces[0].prediction.scores) == 7


async def test_a_picture_without_faces_is_an_empty_analysis(server: LocalServer) -> None:
    (result,) = await _analyze(server, encode(np.full((200, 300), 128, np.uint8), "PNG"))
    assert result.WhichOneof("outcome") == "analysis"
    assert (result.analysis.width, result.analysis.height, len(result.analysis.faces)) == (300, 200, 0)


async def test_broken_pictures_fail_alone_among_good_ones_of_all_kinds(server: LocalServer) -> None:
    portrait = ASTRONAUT.read_bytes()
    grey = astronaut()
    small = corner_mark()
    images = {
        "portrait": portrait,
        "truncated": portrait[: len(portrait) // 2],
        "grey JPEG": encode(grey, quality=90),
        "text": b"This is no picture.",
        "nothing": b"",
        "one pixel": encode(np.zeros((1, 1), np.uint8), "PNG"),
        "16 bits": encode(small.astype(np.uint16) * 257, "PNG"),
        "alpha": encode(_colour(small, 4), "PNG"),
        "turned": turned_astronaut(6),
        "bomb": bomb_png(),
        "WebP": encode(_colour(small, 3), "WEBP"),
        "portrait again": portrait,
    }
    results = dict(zip(images, await _analyze(server, *images.values()), strict=True))
    failed = {name: result.failure.reason for name, result in results.items() if result.HasField("failure")}
    assert failed == {
        "truncated": "IMAGE_UNREADABLE",
        "text": "IMAGE_FORMAT_UNSUPPORTED",
        "nothing": "IMAGE_FORMAT_UNSUPPORTED",
        "bomb": results["bomb"].failure.reason,
    }
    assert results["bomb"].failure.metadata["setting"] == "max_image_pixels"
    for name in ("portrait", "grey JPEG", "turned", "portrait again"):
        assert _holds_the_face(results[name].analysis.faces[0]), name
    assert results["portrait"] == results["portrait again"]
    sizes = {name: (result.analysis.width, result.analysis.height) for name, result in results.items()}
    assert sizes["one pixel"] == (1, 1)
    assert sizes["16 bits"] == sizes["alpha"] == sizes["WebP"] == (60, 40)


async def test_a_turned_picture_is_seen_upright(server: LocalServer) -> None:
    results = await _analyze(server, *(turned_astronaut(orientation) for orientation in (1, 3, 5, 8)))
    assert all(_holds_the_face(result.analysis.faces[0]) for result in results)


async def test_a_whole_picture_may_be_the_face(server: LocalServer) -> None:
    (result,) = await _analyze(server, encode(corner_mark(), "PNG"), detection=WHOLE)
    (face,) = result.analysis.faces
    assert face.box == face_pb2.BoundingBox(left=0, top=0, width=60, height=40)
    assert result.analysis.omitted_face_count == 0


async def test_faces_beyond_the_limit_are_counted_and_not_classified(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    crowd = encode(np.tile(astronaut(), (1, 3)), quality=92)
    searched = {"detection_side_pixels": 1536, "max_detection_side_pixels": 1536}
    async with local_server(tmp_path, **searched) as server:
        (everybody,) = await _analyze(server, crowd)
    found = len(everybody.analysis.faces)
    assert found >= 3
    async with local_server(tmp_path, **searched, max_faces_per_image=2) as server:
        (some,) = await _analyze(server, crowd)
    assert len(some.analysis.faces) == 2
    assert some.analysis.omitted_face_count == found - 2
    assert list(some.analysis.faces) == list(everybody.analysis.faces[:2])
