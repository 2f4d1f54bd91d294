"""Tests the calls of the load at a fixed rate, against the server side of the same HTTP/2 library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ngh2
import pytest
from load.client_connection import MAX_WINDOW, ClientConnection, OpenCall, request_headers

from support.http2_frames import message_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE = bytes(range(256)) * 300
HEADERS = request_headers("127.0.0.1:50051", "/ferserve.v1.EmotionService/ClassifyFaces", 1.5)
BEGIN = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK = ((b"grpc-status", b"0"),)
REJECTED = (*BEGIN, (b"grpc-status", b"4"))


class Bench:
    """A connection of the load, and a server that keeps what it receives."""

    def __init__(self, settings: dict[int, int] | None = None) -> None:
        self.ended: list[tuple[OpenCall, str]] = []
        self.bodies: dict[int, bytes] = {}
        self.resets: list[tuple[int, int]] = []
        self.client = ClientConnection(HEADERS, MESSAGE, lambda call, code: self.ended.append((call, code)))
        self.server = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(auto_window_update=False))
        self.server.initiate_connection(settings or {})
        self.pump()

    def pump(self) -> None:
        """Exchanges bytes until both sides have nothing to send."""
        while (sent := self.client.output(1000)) + (answered := self.server.data_to_send()):
            if sent:
                self.server.receive_data(sent)
            if answered:
                self.client.receive(answered)
            for event in self.server.events():
                if isinstance(event, ngh2.DataReceived):
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, ngh2.StreamReset):
                    self.resets.append((event.stream_id, event.error_code))

    def widen(self) -> None:
        """Lets the client send on, as a server that has read everything."""
        for stream_id, body in self.bodies.items():
            self.server.set_local_window_size(2**24 + len(body), stream_id=stream_id)
        self.server.set_local_window_size(2**24)
        self.pump()

    def begin(self) -> OpenCall:
        call = OpenCall(1.0, 2.0)
        self.client.begin(call)
        self.pump()
        return call

    def answer(
        self,
        stream_id: int,
        body: bytes = b"classes",
        headers: Sequence[tuple[bytes, bytes]] = BEGIN,
        trailers: Sequence[tuple[bytes, bytes]] = OK,
    ) -> None:
        self.server.send_response(stream_id, headers)
        if body:
            self.server.send_data(stream_id, body)
        self.server.send_trailers(stream_id, trailers)
        self.pump()

    def reject(self, stream_id: int) -> None:
        self.server.send_response(stream_id, REJECTED, end_stream=True)
        self.pump()


WIDE = {ngh2.Setting.INITIAL_WINDOW_SIZE: 2**20}


def wide(**settings: int) -> Bench:
    bench = Bench(WIDE | {ngh2.Setting[name]: value for name, value in settings.items()})
    bench.server.set_local_window_size(2**24)
    bench.pump()
    return bench


def test_the_headers_of_a_call_are_those_of_grpc() -> None:
    assert dict(HEADERS) == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/ferserve.v1.EmotionService/ClassifyFaces",
        b":authority": b"127.0.0.1:50051",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"grpc-timeout": b"1500m",
    }


@pytest.mark.parametrize("timeout_s", [1e-9, 1e9])
def test_a_timeout_has_one_to_eight_digits(timeout_s: float) -> None:
    timeout = dict(request_headers("a:1", "/b", timeout_s))[b"grpc-timeout"]

    assert 1 <= int(timeout[:-1]) <= 99_999_999


def test_no_answer_waits_for_a_window_of_the_load() -> None:
    bench = wide()

    assert bench.server.remote_window_size == MAX_WINDOW
    assert bench.server.remote_settings[ngh2.Setting.INITIAL_WINDOW_SIZE] == MAX_WINDOW


def test_a_call_is_sent_whole_and_its_answer_is_counted() -> None:
    bench = wide()
    call = bench.begin()

    bench.answer(1)

    assert bench.bodies == {1: message_bytes(MESSAGE)}
    assert bench.ended == [(call, "")]
    assert call.ended


def test_calls_have_their_own_streams_and_are_answered_in_any_order() -> None:
    bench = wide()
    first, second = bench.begin(), bench.begin()

    bench.answer(3)
    bench.reject(1)

    assert bench.ended == [(second, ""), (first, "DEADLINE_EXCEEDED")]


def test_a_call_waits_for_the_windows_of_the_server() -> None:
    bench = Bench()
    bench.begin()
    assert len(bench.bodies[1]) == 65_535  # RFC 9113, 6.9.2

    bench.widen()

    assert bench.bodies == {1: message_bytes(MESSAGE)}


def test_calls_beyond_the_stream_limit_of_the_server_wait_for_a_stream() -> None:
    bench = wide(MAX_CONCURRENT_STREAMS=1)
    first, late, third = bench.begin(), bench.begin(), bench.begin()
    assert list(bench.bodies) == [1]
    bench.client.give_up(late)

    bench.answer(1)
    bench.answer(third.stream_id)

    assert bench.ended == [(first, ""), (third, "")]
    assert list(bench.bodies) == [1, third.stream_id]


def test_a_call_that_is_given_up_is_reset_and_its_late_answer_is_ignored() -> None:
    bench = wide()
    call = bench.begin()
    bench.server.send_response(1, REJECTED, end_stream=True)

    bench.client.give_up(call)
    bench.pump()

    assert bench.resets == [(1, ngh2.ErrorCode.CANCEL)]
    assert call.ended
    assert not bench.ended


def test_a_call_that_is_answered_before_all_is_sent_sends_no_more() -> None:
    bench = Bench()
    call = bench.begin()

    bench.reject(1)
    bench.server.set_local_window_size(2**24)
    bench.pump()

    assert bench.ended == [(call, "DEADLINE_EXCEEDED")]
    assert bench.resets == [(1, ngh2.ErrorCode.CANCEL)]
    assert len(bench.bodies[1]) == 65_535


def test_an_answer_without_a_message_has_a_code_of_its_own() -> None:
    bench = wide()
    call = bench.begin()

    bench.answer(1, body=b"")

    assert bench.ended == [(call, "NO_MESSAGE")]


def test_an_answer_without_a_status_has_a_code_of_its_own() -> None:
    bench = wide()
    first, second = bench.begin(), bench.begin()

    bench.server.send_response(1, BEGIN, end_stream=True)
    bench.server.send_response(3, BEGIN)
    bench.server.send_data(3, b"x", end_stream=True)
    bench.pump()

    assert bench.ended == [(first, "NO_STATUS"), (second, "NO_STATUS")]


def test_a_reset_call_is_counted_with_the_code_of_the_reset() -> None:
    bench = wide()
    call = bench.begin()

    bench.server.reset_stream(1, ngh2.ErrorCode.REFUSED_STREAM)
    bench.pump()

    assert bench.ended == [(call, "RST_STREAM 7")]


def test_a_server_that_ends_the_connection_ends_the_load() -> None:
    bench = wide()
    bench.server.send_goaway(ngh2.ErrorCode.ENHANCE_YOUR_CALM, debug_data=b"calm")

    with pytest.raises(ConnectionError, match="calm"):
        bench.pump()


def test_a_server_that_breaks_the_protocol_ends_the_load() -> None:
    bench = wide()

    with pytest.raises(ConnectionError, match="error of the protocol"):  # noqa: PT012 - first it says GOAWAY
        bench.client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while bench.client.output(1000):
            pass
