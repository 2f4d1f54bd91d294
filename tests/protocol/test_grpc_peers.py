"""Tests the native server with a strict independent client: flow control, padding, faults, floods."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.backends.fake import FakeLoader
from support.fake_models import publish_fake
from support.http2 import PATH, call_headers, h2_peer, message_bytes
from support.http2_frames import ErrorCode, Kind, Setting, write_frame
from support.local_server import LocalServer, classes_of, eventually, local_server, packed, taken_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.http2 import Answer, H2Peer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalServer]:
    publish_fake(tmp_path, version=3)
    async with asyncio.timeout(60), local_server(tmp_path) as running:
        yield running


@pytest.fixture
async def peer(server: LocalServer) -> AsyncIterator[H2Peer]:
    async with h2_peer(server.running.port or 0) as connected:
        yield connected


def _request(*classes: int) -> bytes:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes)).SerializeToString()


def _classes(answer: Answer) -> list[int]:
    assert answer.status == "0", answer
    return classes_of(emotion_pb2.ClassifyFacesResponse.FromString(answer.data[5:]))


async def test_a_call_is_answered_with_the_headers_that_grpc_wants(peer: H2Peer) -> None:
    answer = await peer.answer(peer.call(_request(5, 0)))
    assert _classes(answer) == [5, 0]
    assert answer.headers == {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}


async def test_an_answer_creeps_through_tiny_windows(server: LocalServer) -> None:
    async with h2_peer(server.running.port or 0, {Setting.INITIAL_WINDOW_SIZE: 100}) as peer:
        answer = await peer.answer(peer.call(_request(*[3] * 25)))
        assert _classes(answer) == [3] * 25


async def test_windows_may_change_while_an_answer_waits_for_them(server: LocalServer) -> None:
    async with h2_peer(server.running.port or 0, {Setting.INITIAL_WINDOW_SIZE: 0}) as peer:
        first, second = peer.call(_request(1)), peer.call(_request(2))
        await peer.until(lambda: all(peer.answers[number].headers for number in (first, second)))
        assert not peer.answers[first].data
        peer.connection.update_settings({int(Setting.INITIAL_WINDOW_SIZE): 1000})
        assert _classes(await peer.answer(first)) == [1]
        assert _classes(await peer.answer(second)) == [2]


async def test_a_client_without_a_table_of_headers_reads_the_answers(server: LocalServer) -> None:
    settings = {Setting.HEADER_TABLE_SIZE: 0, Setting.MAX_FRAME_SIZE: 2**20}
    async with h2_peer(server.running.port or 0, settings) as peer:
        for number in range(3):
            assert _classes(await peer.answer(peer.call(_request(number)))) == [number]


async def test_padded_frames_in_small_pieces_are_a_message_too(peer: H2Peer) -> None:
    stream_id = peer.call(None, end=False)
    message = message_bytes(_request(*range(7)))
    for at in range(0, len(message), 1000):
        peer.connection.send_data(stream_id, message[at : at + 1000], pad_length=at % 256)
    peer.connection.end_stream(stream_id)
    assert _classes(await peer.answer(stream_id)) == list(range(7))


async def test_a_message_beyond_the_window_comes_as_the_window_grows(peer: H2Peer) -> None:
    stream_id = peer.call(None, end=False)
    data = message_bytes(_request(*[4] * 500))
    while data:
        room = min(peer.connection.local_flow_control_window(stream_id), 16_384)
        peer.connection.send_data(stream_id, data[:room])
        data = data[room:]
        await peer.until(
            lambda: not data or peer.connection.local_flow_control_window(stream_id)  # noqa: B023 - read at once
        )
    peer.connection.end_stream(stream_id)
    assert _classes(await peer.answer(stream_id)) == [4] * 500


async def test_headers_that_are_continued_are_read_and_too_many_rejected_by_name(peer: H2Peer) -> None:
    answer = await peer.answer(peer.call(_request(1), x_long="y" * 20_000))
    assert answer.status == "3"
    assert "max_metadata_bytes" in answer.headers["grpc-message"]
    assert _classes(await peer.answer(peer.call(_request(1), x_short="y" * 1000))) == [1]


@pytest.mark.parametrize("byte_count", [16_000, 50_000])
async def test_metadata_beyond_the_limit_fails_its_call_and_no_other_on_the_connection(
    peer: H2Peer, byte_count: int
) -> None:
    """32 and 100 KB: behind a proxy that pools connections one mistake must not end the calls of others."""
    other = peer.call(None, end=False)
    answer = await peer.answer(peer.call(_request(1), x_a="y" * byte_count, x_b="z" * byte_count))
    assert answer.status == "3"
    assert "max_metadata_bytes" in answer.headers["grpc-message"]
    peer.connection.send_data(other, message_bytes(_request(2)), end_stream=True)
    assert _classes(await peer.answer(other)) == [2]


async def test_headers_beyond_all_bounds_end_the_connection_alone(server: LocalServer, peer: H2Peer) -> None:
    """So many come only from references to long entries of HPACK's table, or in more frames than are accepted."""
    peer.call(_request(1), **{f"x_{at}": chr(ord("a") + at) * 60_000 for at in range(5)})
    await peer.until(lambda: peer.gone is not None)
    assert peer.gone == ErrorCode.ENHANCE_YOUR_CALM
    response = await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(2)))
    assert classes_of(response) == [2]


@pytest.mark.parametrize(
    ("path", "more", "status", "said"),
    [
        ("/no/such", {}, "12", "/no/such"),
        (PATH, {"grpc_timeout": "soon"}, "13", "grpc-timeout"),
    ],
)
async def test_what_no_method_answers_is_reported_and_the_connection_goes_on(
    peer: H2Peer, path: str, more: dict[str, str], status: str, said: str
) -> None:
    answer = await peer.answer(peer.call(_request(1), path, **more))
    assert (answer.headers[":status"], answer.status) == ("200", status)
    assert said in answer.headers["grpc-message"]
    assert _classes(await peer.answer(peer.call(_request(1)))) == [1]


@pytest.mark.parametrize(
    ("name", "value", "status"), [("content-type", "application/json", "415"), (":method", "GET", "405")]
)
async def test_what_is_no_call_of_grpc_gets_a_status_of_http(
    peer: H2Peer, name: str, value: str, status: str
) -> None:
    headers = [(key, value if key == name else old) for key, old in call_headers()]
    assert (await peer.answer(peer.begin_call(headers, end=True))).headers == {":status": status}


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (PATH, _request(1)),
        ("/ferserve.v1.EmotionService/AnalyzeImages", b""),
        ("/ferserve.v1.ModelService/ListModels", b""),
        ("/ferserve.v1.ModelService/GetModel", b""),
        ("/grpc.health.v1.Health/Check", b""),
        ("/grpc.health.v1.Health/Watch", b""),
        ("/inference.GRPCInferenceService/ServerLive", b""),
        ("/inference.GRPCInferenceService/ModelInfer", b""),
        ("/tensorflow.serving.PredictionService/Predict", b""),
    ],
)
async def test_a_call_of_one_message_has_one(peer: H2Peer, path: str, message: bytes, count: int) -> None:
    stream_id = peer.call(None, path, end=False)
    peer.connection.send_data(stream_id, message_bytes(message) * count, end_stream=True)
    assert (await peer.answer(stream_id)).status == "12"


async def test_a_message_that_is_compressed_unknown_to_its_headers_is_rejected(peer: H2Peer) -> None:
    stream_id = peer.call(None, end=False)
    peer.connection.send_data(stream_id, b"\x01\x00\x00\x00\x01x", end_stream=True)
    assert (await peer.answer(stream_id)).status == "13"


async def test_a_deadline_is_the_servers_too(tmp_path: Path) -> None:
    """A client that ignores its own deadline gets the error too."""
    publish_fake(tmp_path)
    settings = {"hold_until_queued": 4, "max_queue_faces": 4, "max_faces_per_request": 4}
    async with local_server(tmp_path, **settings) as server:
        async with h2_peer(server.running.port or 0) as peer:
            answer = await peer.answer(peer.call(_request(1, 1, 1), grpc_timeout="50m"))
            assert answer.status == "4"
        full = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2, 3, 4))
        assert classes_of(await server.emotion.ClassifyFaces(full)) == [1, 2, 3, 4]


async def test_a_deadline_in_ten_thousand_years_is_none(peer: H2Peer) -> None:
    assert _classes(await peer.answer(peer.call(_request(4), grpc_timeout="99999999H"))) == [4]


async def test_a_deadline_ends_a_stream(peer: H2Peer) -> None:
    stream_id = peer.call(None, PATH.replace("Faces", "Stream"), end=False, grpc_timeout="50m")
    answer = await peer.answer(stream_id)
    assert answer.status == "4"


async def test_a_reset_call_leaves_the_queue(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    settings = {"hold_until_queued": 4, "max_queue_faces": 4, "max_faces_per_request": 4}
    async with (
        local_server(tmp_path, **settings) as server,
        h2_peer(server.running.port or 0) as peer,
    ):
        stream_id = peer.call(_request(1, 1, 1))
        await peer.flush()
        peer.connection.reset_stream(stream_id, int(ErrorCode.CANCEL))
        await peer.flush()
        full = emotion_pb2.ClassifyFacesRequest(packed=packed(1, 2, 3, 4))
        await eventually(lambda: taken_in(server, full))


async def test_a_flood_ends_its_connection_and_no_other(server: LocalServer, peer: H2Peer) -> None:
    other = asyncio.ensure_future(
        server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(*[1] * 100)))
    )
    peer.write(write_frame(Kind.PING, 0, 0, bytes(8)) * 5000)
    await peer.until(lambda: peer.gone is not None)
    assert peer.gone == ErrorCode.ENHANCE_YOUR_CALM
    assert classes_of(await other) == [1] * 100


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100)])
async def test_who_speaks_something_else_is_cut_and_the_server_goes_on(server: LocalServer, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.running.port)
    writer.write(sent)
    assert b"speak HTTP/2" in await reader.read()
    writer.close()
    response = await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed(2)))
    assert classes_of(response) == [2]


async def test_messages_of_a_stream_that_come_together_are_answered_in_order(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with (
        local_server(tmp_path, FakeLoader(batch_s=0.01), max_unanswered_messages=4) as server,
        h2_peer(server.running.port or 0, {Setting.INITIAL_WINDOW_SIZE: 200}) as peer,
    ):
        requests = b"".join(
            message_bytes(
                emotion_pb2.ClassifyStreamRequest(sequence_id=at, faces=packed(at % 7)).SerializeToString()
            )
            for at in range(20)
        )
        stream_id = peer.call(None, PATH.replace("Faces", "Stream"), end=False)
        for at in range(0, len(requests), 16_384):
            peer.connection.send_data(stream_id, requests[at : at + 16_384])
        peer.connection.end_stream(stream_id)
        answer = await peer.answer(stream_id)
        assert answer.status == "0"
        numbers, data = [], answer.data
        while data:
            length = int.from_bytes(data[1:5])
            found = emotion_pb2.ClassifyStreamResponse.FromString(data[5 : 5 + length])
            numbers.append((found.sequence_id, found.predictions[0].label_index))
            data = data[5 + length :]
        assert numbers == [(at, at % 7) for at in range(20)]
