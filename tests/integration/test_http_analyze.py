"""Tests POST /v1/analyze over a real socket: its answers and all of its errors."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from support.http import BlockingLoader, form, http_server
from support.model_factory import LABELS
from support.pictures import ASTRONAUT, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from support.http import HttpServer

PORTRAIT = ASTRONAUT.read_bytes()
FACE = encode(np.full((48, 48), 3, np.uint8), "PNG")
WHOLE = "/v1/analyze?detect=false"
HEAD = b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, max_message_bytes=200_000, max_images_per_request=3) as running:
        yield running


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", None]
)
async def test_the_faces_of_a_picture_are_those_that_grpc_tells(
    server: HttpServer, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await server.ask(
        "/v1/analyze?min_face_pixels=60&detector=haar&scale_factor=1.05", PORTRAIT, headers=headers
    )
    options = face_pb2.DetectionOptions(
        min_face_pixels=60, detector=face_pb2.DETECTOR_HAAR, haar=face_pb2.HaarOptions(scale_factor=1.05)
    )
    request = emotion_pb2.AnalyzeImagesRequest(images=[PORTRAIT], detection=options)
    reported = (await server.server.emotion.AnalyzeImages(request)).results[0].analysis
    assert answer.status == 200
    (found,) = answer.json["results"]
    assert (found["width"], found["height"], found["omitted_face_count"]) == (512, 512, 0)
    assert [face["box"] for face in found["faces"]] == [
        {name: getattr(face.box, name) for name in ("left", "top", "width", "height")} for face in reported.faces
    ]
    for face, expected in zip(found["faces"], reported.faces, strict=True):
        assert face["emotion"] == LABELS[expected.prediction.label_index]
        assert list(face["scores"].values()) == pytest.approx(list(expected.prediction.scores), abs=1e-6)
        assert face["confidence"] == max(face["scores"].values())
    assert answer.json["model"] == {"name": "fer-nano", "version": 1}
    assert answer.json["timing"]["total_ms"] >= answer.json["timing"]["detect_ms"] > 0


async def test_a_picture_that_is_a_face_is_not_searched(server: HttpServer) -> None:
    found = (await server.ask(WHOLE + "&model=fer-nano&version=1&priority=bulk", FACE)).json["results"][0]
    assert found["faces"][0]["box"] == {"left": 0, "top": 0, "width": 48, "height": 48}
    assert found["faces"][0]["emotion"] == LABELS[3 * 48 * 48 % 7]


async def test_the_files_of_a_form_are_answered_in_order_and_fail_alone(server: HttpServer) -> None:
    answer = await server.ask(WHOLE, form(("a.png", FACE), ("b.txt", b"no picture"), ("c.png", FACE)))
    good, bad, last = answer.json["results"]
    assert answer.status == 200
    assert [each["name"] for each in (good, bad, last)] == ["a.png", "b.txt", "c.png"]
    assert bad["failure"]["reason"] == "IMAGE_FORMAT_UNSUPPORTED"
    assert good["faces"] == last["faces"] != []


async def test_large_files_of_a_form_arrive_whole(server: HttpServer) -> None:
    data = form(("a.jpg", PORTRAIT), ("b.png", FACE))
    assert len(PORTRAIT) > 2**15
    results = (await server.ask("/v1/analyze", data)).json["results"]
    assert [len(each["faces"]) for each in results] == [1, 0]


def _text_field() -> aiohttp.FormData:
    data = form(("a.png", FACE))
    data.add_field("min_face_pixels", "60")
    return data


@pytest.mark.parametrize(
    ("path", "data", "rejection"),
    [
        ("/v1/analyze", b"no picture", (400, "IMAGE_FORMAT_UNSUPPORTED")),
        ("/v1/analyze", PORTRAIT[:1000], (400, "IMAGE_UNREADABLE")),
        ("/v1/analyze", b"", (400, "IMAGES_REQUIRED")),
        ("/v1/analyze?min_face_pixels=3", FACE, (400, "OPTION_OUT_OF_RANGE")),
        ("/v1/analyze?scale_factor=fast", FACE, (400, "OPTION_OUT_OF_RANGE")),
        ("/v1/analyze?min_face_pixel=60", FACE, (400, "OPTION_UNKNOWN")),
        ("/v1/analyze?timeout_ms=0", FACE, (400, "OPTION_OUT_OF_RANGE")),
        ("/v1/analyze?model=..%2Fetc", FACE, (400, "MODEL_NAME_INVALID")),
        ("/v1/analyze?model=other", FACE, (404, "MODEL_NOT_FOUND")),
        ("/v1/analyze?version=9", FACE, (404, "VERSION_NOT_FOUND")),
        ("/v1/other", FACE, (404, "PATH_NOT_FOUND")),
    ],
)
async def test_what_cannot_be_answered_has_its_status_and_reason(
    server: HttpServer, path: str, data: bytes, rejection: tuple[int, str]
) -> None:
    assert (await server.ask(path, data, "POST")).rejection == rejection


async def test_forms_that_hold_no_files_are_rejected(server: HttpServer) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await server.ask(WHOLE, b"--x--\r\n", headers=boundary)).rejection == (400, "IMAGES_REQUIRED")
    assert (await server.ask(WHOLE, b"", "POST", headers=boundary)).rejection == (400, "BODY_INVALID")
    assert (await server.ask(WHOLE, b"--y\r\n\r\n", headers=boundary)).rejection == (400, "BODY_INVALID")
    cut = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nabc'
    assert (await server.ask(WHOLE, cut, headers=boundary)).rejection == (400, "BODY_INVALID")
    nested = b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n"
    assert (await server.ask(WHOLE, nested, headers=boundary)).rejection == (400, "FORM_FIELD_UNKNOWN")
    none = {"Content-Type": "multipart/form-data"}
    assert (await server.ask(WHOLE, b"--x--\r\n", headers=none)).rejection == (400, "BODY_INVALID")
    assert (await server.ask(WHOLE, _text_field())).rejection == (400, "FORM_FIELD_UNKNOWN")
    too_many = form(*[(str(number), FACE) for number in range(4)])
    assert (await server.ask(WHOLE, too_many)).rejection == (400, "TOO_MANY_IMAGES")


async def test_other_kinds_of_bodies_and_methods_are_rejected(server: HttpServer) -> None:
    text = await server.ask("/v1/analyze", b"{}", headers={"Content-Type": "application/json"})
    assert text.rejection == (415, "CONTENT_TYPE_UNSUPPORTED")
    got = await server.ask("/v1/analyze")
    assert got.rejection == (405, "METHOD_NOT_ALLOWED")
    assert got.headers["Allow"] == "POST"
    headers = {f"x-{number}": "v" * 4000 for number in range(5)}
    assert (await server.ask(WHOLE, FACE, headers=headers)).rejection == (431, "METADATA_TOO_LARGE")


async def test_a_body_that_says_it_is_too_long_is_rejected_before_it_is_sent(server: HttpServer) -> None:
    answer = await server.raw(HEAD + b"Content-Length: 200001\r\nConnection: close\r\n\r\n", b"x")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"MESSAGE_TOO_LARGE" in answer
    assert b"max_message_bytes" in answer


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=x"])
async def test_a_body_that_grows_too_long_is_rejected_while_it_is_read(server: HttpServer, kind: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        while True:
            await asyncio.sleep(0)
            yield bytes(10_000)
            sent += 10_000

    answer = await server.ask("/v1/analyze", endless(), headers={"Content-Type": kind})
    assert answer.rejection == (413, "MESSAGE_TOO_LARGE")
    assert sent < 20_000_000
    assert (await server.ask(WHOLE, FACE)).status == 200


async def test_a_body_that_grows_too_long_when_it_is_unpacked_is_rejected(server: HttpServer) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "image/jpeg"}
    assert (await server.ask(WHOLE, gzip.compress(FACE), headers=headers)).status == 200
    inner = gzip.compress(bytes(10_000_000))
    assert len(inner) < 200_000
    assert (await server.ask(WHOLE, b"no gzip", headers=headers)).status == 400
    assert (await server.ask(WHOLE, inner, headers=headers)).rejection == (413, "MESSAGE_TOO_LARGE")


async def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    async with http_server(tmp_path, http_body_timeout_s=0.2) as server:
        answer = await server.raw(HEAD + b"Content-Length: 10\r\nConnection: close\r\n\r\nhalf")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"BODY_TOO_SLOW" in answer
        assert b"http_body_timeout_s" in answer


async def test_what_is_no_http_is_turned_away_and_nobody_else_notices(server: HttpServer) -> None:
    assert b"400" in await server.raw(b"\x16\x03\x01 hello\r\n\r\n")
    assert b"400" in await server.raw(HEAD + b"Content-Length: many\r\n\r\n")
    broken = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b"400" in await server.raw(broken, b"zz\r\n")
    assert (await server.ask(WHOLE, FACE)).status == 200


async def test_calls_are_counted_as_those_over_grpc(server: HttpServer) -> None:
    await server.ask(WHOLE, FACE)
    await server.ask("/v1/analyze?model=other", FACE)
    await server.ask("/healthz")
    assert await server.metric("requests_total", method="HTTP/analyze", code="OK") == 1
    assert await server.metric("requests_total", method="HTTP/analyze", code="NOT_FOUND") == 1
    assert await server.metric("request_seconds_count", method="HTTP/analyze") == 2
    assert await server.metric("requests_in_progress", method="HTTP/analyze") == 0


async def test_a_full_queue_is_answered_at_once_with_a_time_to_come_back(tmp_path: Path) -> None:
    loader = BlockingLoader()
    full = {"max_queue_faces": 1, "max_faces_per_request": 1, "bucket_sizes": (1,), "executor_count": 1}
    async with http_server(tmp_path, loader, **full) as server:
        loader.unblocked.clear()
        waiting = [asyncio.ensure_future(server.ask(WHOLE, FACE)) for _ in range(8)]
        rejected, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in rejected:
            answer = each.result()
            assert answer.rejection == (429, "QUEUE_FULL")
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json["retry_after_ms"] > 0
        loader.unblocked.set()
        assert 200 in {answer.status for answer in await asyncio.gather(*waiting)}


async def test_a_caller_who_waits_no_longer_gets_504(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with http_server(tmp_path, loader) as server:
        loader.unblocked.clear()
        answer = await server.ask(WHOLE + "&timeout_ms=300", FACE)
        assert answer.rejection == (504, "DEADLINE_EXPIRED")
        assert await server.metric("requests_total", method="HTTP/analyze", code="DEADLINE_EXCEEDED") == 1
        loader.unblocked.set()


async def test_a_caller_who_leaves_cancels_the_work(tmp_path: Path) -> None:
    # Nothing runs before 100 faces wait, so the face stays in the queue unless it is taken out.
    async with http_server(tmp_path, hold_until_queued=100) as server:
        depth = {"model": "fer-nano", "version": "1"}
        leaving = asyncio.ensure_future(server.ask(WHOLE, FACE))
        await server.wait_for_metric(1, "queue_depth_faces", **depth)
        leaving.cancel()
        await server.wait_for_metric(1, "requests_total", method="HTTP/analyze", code="CANCELLED")
        assert await server.metric("queue_depth_faces", **depth) == 0
        assert await server.server.running.drain()
