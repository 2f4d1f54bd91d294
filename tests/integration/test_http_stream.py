"""Tests GET /v1/stream over real sockets: the contract of the WebSocket frame stream, and all of its endings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from support.http import BlockingLoader, http_server
from support.model_factory import LABELS
from support.pictures import ASTRONAUT, encode
from support.tiers import detection_tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.http import HttpServer

PORTRAIT = ASTRONAUT.read_bytes()
FACE = encode(np.full((48, 48), 3, np.uint8), "PNG")
WHOLE: dict[str, Any] = {"detection": {"face_source": "whole_image"}, "overload_policy": "every_frame"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, max_message_bytes=200_000) as running:
        yield running


def frame(sequence_id: int, image: bytes = FACE, time_s: float = math.nan) -> bytes:
    return struct.pack(">qd", sequence_id, time_s) + image


class Stream:
    """One open stream."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def next(self) -> dict[str, Any]:
        message = await self.socket.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        document: dict[str, Any] = json.loads(message.data)
        return document

    async def ask(self, sequence_id: int, image: bytes = FACE, time_s: float = math.nan) -> dict[str, Any]:
        await self.socket.send_bytes(frame(sequence_id, image, time_s))
        return await self.next()

    async def end(self) -> tuple[dict[str, Any], int | None]:
        """The error that ends it, and the close code."""
        error = await self.next()
        assert error["type"] == "error"
        message = await self.socket.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return error, message.data


@contextlib.asynccontextmanager
async def stream(
    server: HttpServer, config: Any = None, *, headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Opens a stream, and sends its configuration unless that is None."""
    url = server.server.http_url + "/v1/stream"
    async with server.session.ws_connect(url, headers=headers, protocols=("ferserve.stream.v1",)) as socket:
        if config is not None:
            await socket.send_str(config if isinstance(config, str) else json.dumps(config))
        yield Stream(socket)


async def test_frames_get_the_answers_that_grpc_gives(server: HttpServer) -> None:
    async with stream(server, {"model": "fer-nano:1", "detection": {"min_face_pixels": 60}}) as opened:
        assert opened.socket.protocol == "ferserve.stream.v1"
        assert await opened.next() == {
            "type": "ready",
            "credit": 2,
            "labels": list(LABELS),
            "model": {"name": "fer-nano", "version": 1},
        }
        answer = await opened.ask(7, PORTRAIT, 1.5)
    detection = face_pb2.DetectionOptions(min_face_pixels=60)
    request = emotion_pb2.AnalyzeImagesRequest(images=[PORTRAIT], detection=detection)
    expected = (await server.server.emotion.AnalyzeImages(request)).results[0].analysis
    assert (answer["type"], answer["sequence_id"], answer["time_s"]) == ("frame", 7, 1.5)
    assert answer["age_ms"] > 0
    assert answer["dropped"] is False
    assert (answer["width"], answer["height"], answer["omitted_face_count"]) == (512, 512, 0)
    assert answer["model"] == {"name": "fer-nano", "version": 1}
    assert (answer["events"], answer["tracks_restarted"]) == ([], False)
    (face,), (other,) = answer["faces"], expected.faces
    assert face["box"] == {name: getattr(other.box, name) for name in ("left", "top", "width", "height")}
    assert list(face["scores"].values()) == pytest.approx(list(other.prediction.scores), abs=1e-6)
    assert face["emotion"] == LABELS[other.prediction.label_index]
    assert face["confidence"] == max(face["scores"].values())
    assert face["uncertain"] == other.prediction.uncertain
    assert "track_id" not in face
    assert "raw" not in face


async def test_with_tracking_faces_have_a_track_raw_scores_and_events(server: HttpServer) -> None:
    async with stream(server, {**WHOLE, "detection": {}, "tracking": True}) as opened:
        await opened.next()
        # A detector without scores needs two sightings to make a track.
        answers = [await opened.ask(number, PORTRAIT, number / 25) for number in range(4)]
    (face,) = answers[-1]["faces"]
    assert face["track_id"] == 1
    assert set(face["raw"]) == {"emotion", "confidence", "scores"}
    (event,) = [each for answer in answers for each in answer["events"]]
    assert (event["event"], event["track_id"], event["duration_s"]) == ("appeared", 1, 0.0)
    assert set(event) == {"event", "track_id", "time_s", "duration_s", "emotion", "confidence", "scores"}


async def test_with_events_only_other_frames_are_unchanged_and_a_resumed_stream_says_so(
    server: HttpServer,
) -> None:
    config = {"tracking": {"enabled": True}, "events_only": True, "resumed_after_sequence_id": 4}
    async with stream(server, config) as opened:
        await opened.next()
        answers = [await opened.ask(number, PORTRAIT, number / 30) for number in range(5, 9)]
    assert answers[-1]["unchanged"] is True
    assert "faces" not in answers[-1]
    assert [each["events"] != [] for each in answers if "events" in each].count(True) == 1


async def test_every_frame_is_answered_once_in_order_and_a_bad_one_fails_alone(server: HttpServer) -> None:
    async with stream(server, WHOLE) as opened:
        await opened.next()
        for number in range(5):
            await opened.socket.send_bytes(frame(number, b"no picture" if number == 2 else FACE))
        answers = [await opened.next() for _ in range(5)]
    assert [each["sequence_id"] for each in answers] == list(range(5))
    failure = answers[2]["failure"]
    assert (failure["code"], failure["reason"]) == ("INVALID_ARGUMENT", "IMAGE_FORMAT_UNSUPPORTED")
    assert failure["message"]
    assert [len(each.get("faces", ())) for each in answers] == [1, 1, 0, 1, 1]


async def test_under_latest_the_newest_frame_wins_and_the_others_are_said_to_be_dropped(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with (
        http_server(tmp_path, loader) as server,
        stream(server, {**WHOLE, "overload_policy": "latest"}) as opened,
    ):
        await opened.next()
        loader.unblocked.clear()
        for number in range(8):
            await opened.socket.send_bytes(frame(number))
        await server.wait_for_metric(3, "stream_frames_dropped_total", reason="newer")
        loader.unblocked.set()
        answers = [await opened.next() for _ in range(8)]
    assert [each["sequence_id"] for each in answers] == list(range(8))
    dropped = [each for each in answers if each["dropped"]]
    assert len(dropped) >= 3
    assert all(each["newer_sequence_id"] > each["sequence_id"] for each in dropped)
    assert answers[-1]["dropped"] is False


@pytest.mark.parametrize(
    ("config", "reason", "field"),
    [
        ("no json", "JSON_INVALID", "config"),
        ("[]", "JSON_INVALID", "config"),
        ("[" * 16_000, "JSON_INVALID", "config"),
        ("{" + " " * 17_000 + "}", "MESSAGE_TOO_LARGE", "config"),
        ({"colour": True}, "OPTION_UNKNOWN", "config.colour"),
        ({"model": 3}, "OPTION_OUT_OF_RANGE", "config.model"),
        ({"model": "../x"}, "MODEL_NAME_INVALID", "config.model.name"),
        ({"model": "other"}, "MODEL_NOT_FOUND", None),
        ({"model": "fer-nano:9"}, "VERSION_NOT_FOUND", None),
        ({"model": "fer-nano:none"}, "ALIAS_NOT_FOUND", None),
        ({"overload_policy": "block"}, "OPTION_OUT_OF_RANGE", "config.overload_policy"),
        ({"detection": {"min_face_pixels": 3}}, "OPTION_OUT_OF_RANGE", "config.detection.min_face_pixels"),
        ({"detection": {"min_face_pixels": "60"}}, "OPTION_OUT_OF_RANGE", "config.detection.min_face_pixels"),
        ({"detection": {"detector": "dlib"}}, "OPTION_OUT_OF_RANGE", "config.detection.detector"),
        ({"detection": {"tiles": 1}}, "OPTION_OUT_OF_RANGE", "config.detection.tiles"),
        ({"detection": 5}, "OPTION_OUT_OF_RANGE", "config.detection"),
        (
            {"tracking": {"enabled": True, "max_lost_s": 1e999}},
            "OPTION_OUT_OF_RANGE",
            "config.tracking.max_lost_s",
        ),
    ],
)
async def test_a_wrong_configuration_ends_the_stream_with_its_reason(
    server: HttpServer, config: Any, reason: str, field: str | None
) -> None:
    async with stream(server, config) as opened:
        error, code = await opened.end()
    assert (error["reason"], error.get("field"), code) == (reason, field, 1008)
    assert error["code"] in {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert error["message"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"short", "FRAME_INVALID"),
        (frame(1, time_s=math.inf), "FRAME_INVALID"),
        (frame(-1), "SEQUENCE_NOT_RISING"),
        (frame(0, bytes(200_001)), "MESSAGE_TOO_LARGE"),
        ("{}", "STREAM_CONFIG_REPEATED"),
    ],
)
async def test_a_wrong_frame_ends_the_stream_with_its_reason(
    server: HttpServer, message: bytes | str, reason: str
) -> None:
    async with stream(server, WHOLE) as opened:
        await opened.next()
        await (opened.socket.send_str(message) if isinstance(message, str) else opened.socket.send_bytes(message))
        error, code = await opened.end()
    assert (error["reason"], code) == (reason, 1008)
    assert await server.metric("requests_total", method="HTTP/stream", code="INVALID_ARGUMENT") == 1


async def test_frames_before_a_wrong_one_are_answered_first(server: HttpServer) -> None:
    async with stream(server, WHOLE) as opened:
        await opened.next()
        await opened.socket.send_bytes(frame(4))
        await opened.socket.send_bytes(frame(4))
        assert (await opened.next())["sequence_id"] == 4
        error, _ = await opened.end()
    assert error["reason"] == "SEQUENCE_NOT_RISING"


async def test_a_frame_as_the_first_message_and_no_message_at_all_are_reported(tmp_path: Path) -> None:
    async with http_server(tmp_path, http_body_timeout_s=0.3) as server:
        async with stream(server) as opened:
            await opened.socket.send_bytes(frame(0))
            assert (await opened.end())[0]["reason"] == "STREAM_CONFIG_REQUIRED"
        async with stream(server) as opened:
            error, code = await opened.end()
    assert (error["reason"], code) == ("STREAM_CONFIG_REQUIRED", 1008)
    assert "http_body_timeout_s" in error["message"]


async def test_a_message_far_beyond_the_limit_is_cut_and_the_server_goes_on(server: HttpServer) -> None:
    async with stream(server, WHOLE) as opened:
        await opened.next()
        await opened.socket.send_bytes(bytes(1_000_000))
        message = await opened.socket.receive(timeout=20)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    assert (await server.ask("/healthz")).status == 200
    await server.wait_for_metric(1, "requests_total", method="HTTP/stream", code="CANCELLED")


async def test_a_drain_answers_what_was_taken_and_says_where_to_resume(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with http_server(tmp_path, loader) as server, stream(server, WHOLE) as opened, stream(server) as waiting:
        await opened.next()
        assert (await opened.ask(0))["sequence_id"] == 0
        loader.unblocked.clear()
        await opened.socket.send_bytes(frame(1))
        await server.wait_for_metric(2, "requests_in_progress", method="HTTP/stream")
        await asyncio.sleep(0.2)  # the frame is on its way; nothing tells that it has come
        drained = server.server.running.drain()
        loader.unblocked.set()
        error, code = await waiting.end()
        assert (error["reason"], error["metadata"]["last_sequence_id"], code) == ("DRAINING", "-1", 1012)
        assert (await opened.next())["sequence_id"] == 1
        error, code = await opened.end()
        assert (error["code"], error["reason"]) == ("UNAVAILABLE", "DRAINING")
        assert (error["metadata"]["last_sequence_id"], error["retry_after_ms"], code) == ("1", 1000, 1012)
        assert await drained


async def test_a_draining_server_rejects_the_handshake(tmp_path: Path) -> None:
    loader = BlockingLoader()
    async with http_server(tmp_path, loader) as server:
        loader.unblocked.clear()
        taken = asyncio.ensure_future(server.ask("/v1/analyze?detect=false", FACE))
        await server.wait_for_metric(1, "requests_in_progress", method="HTTP/analyze")
        drained = server.server.running.drain()
        await asyncio.sleep(0)  # the drain begins
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with stream(server, WHOLE):
                pass
        assert caught.value.status == 503
        loader.unblocked.set()
        assert (await taken).status == 200
        assert await drained


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("own", True),
        ("https://faces.example.com", True),
        ("https://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("", False),
    ],
)
async def test_pages_of_other_origins_get_no_stream(tmp_path: Path, origin: str | None, allowed: bool) -> None:
    async with http_server(tmp_path, http_origins=("https://faces.example.com",)) as server:
        own = server.server.http_url
        headers = {} if origin is None else {"Origin": own if origin == "own" else origin}
        if allowed:
            async with stream(server, WHOLE, headers=headers) as opened:
                assert (await opened.next())["type"] == "ready"
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with stream(server, WHOLE, headers=headers):
                pass
        assert caught.value.status == 403
        rejected = await server.ask("/v1/stream", headers=headers)
        assert rejected.rejection == (403, "ORIGIN_NOT_ALLOWED")
        assert "http_origins" in rejected.json["error"]
        assert await server.metric("requests_total", method="HTTP/stream", code="PERMISSION_DENIED") == 2


async def test_a_request_that_is_no_handshake_is_answered_with_what_to_do(server: HttpServer) -> None:
    answer = await server.ask("/v1/stream")
    assert answer.rejection == (426, "UPGRADE_REQUIRED")
    assert answer.headers["Upgrade"] == "websocket"


async def test_streams_are_counted_and_one_that_leaves_is_cancelled(server: HttpServer) -> None:
    labels = {"method": "HTTP/stream"}
    async with stream(server, WHOLE) as opened:
        await opened.next()
        await opened.ask(0)
        assert await server.metric("requests_in_progress", **labels) == 1
        assert await server.metric("stream_answers_total", method="StreamFrames", outcome="result") == 1
    await server.wait_for_metric(1, "requests_total", code="OK", **labels)
    async with stream(server, WHOLE) as opened:
        await opened.next()
        opened.socket._response.connection.transport.abort()  # type: ignore[union-attr]  # as a phone that is gone
    await server.wait_for_metric(1, "requests_total", code="CANCELLED", **labels)
    assert await server.metric("requests_in_progress", **labels) == 0


async def test_beside_worker_processes_and_before_a_model_tier_streams_are_answered_alike(tmp_path: Path) -> None:
    async def answer(url: str) -> dict[str, Any]:
        async with session.ws_connect(f"{url}/v1/stream") as socket:
            opened = Stream(socket)
            await socket.send_json({**WHOLE, "tracking": True})
            ready = await opened.next()
            assert (ready["model"], ready["labels"]) == ({"name": "fer-nano", "version": 1}, list(LABELS))
            found = await opened.ask(0, FACE, 0.5)
            return {name: found[name] for name in ("sequence_id", "time_s", "faces", "model")}

    async with (
        http_server(tmp_path, processes=2) as several,
        detection_tier(several.server.address, http_listen="127.0.0.1:0") as tier,
        aiohttp.ClientSession() as session,
    ):
        assert await answer(several.server.http_url) == await answer(tier.http_url)


async def test_models_are_listed(server: HttpServer) -> None:
    (model,) = (await server.ask("/v1/models")).json["models"]
    assert (model["name"], model["default"], model["serving_version"]) == ("fer-nano", True, 1)
    (version,) = model["versions"]
    assert (version["version"], version["state"], version["labels"]) == (1, "ready", list(LABELS))
