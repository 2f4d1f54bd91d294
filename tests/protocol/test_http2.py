"""Tests a connection byte by byte against the requirements of the RFC."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog
from hpack import Decoder

from ferserve_server.domain.errors import LimitExceededError
from ferserve_server.grpc.trailers import OK
from ferserve_server.http2 import limits
from support.http2 import LIMITS, H2Bench, kinds, message_bytes
from support.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    ErrorCode,
    Kind,
    Setting,
    write_frame,
    write_reset,
    write_settings,
    write_window_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def bench() -> H2Bench:
    return H2Bench()


def _number(value: int) -> bytes:
    return value.to_bytes(4)


def test_a_connection_begins_with_the_settings_of_both_sides() -> None:
    bench = H2Bench(begin=False)
    assert kinds(bench.read()) == [Kind.SETTINGS, Kind.WINDOW_UPDATE]
    (acknowledged,) = bench.send(PREFACE + write_settings({}))
    assert (acknowledged.kind, acknowledged.flags) == (Kind.SETTINGS, ACK)


@pytest.mark.parametrize("piece_bytes", [1, 1000, 65_536])
def test_a_message_of_one_long_frame_is_whole_however_its_bytes_come(bench: H2Bench, piece_bytes: int) -> None:
    message = bytes(range(256)) * 511
    sent = bench.call(1, message) + bench.call(3)
    for at in range(0, len(sent), piece_bytes):
        bench.send(sent[at : at + piece_bytes])
    assert [(call.messages, call.ended) for call in bench.calls] == [([message], True), ([b"faces"], True)]


def test_an_answer_is_headers_data_and_trailers_in_one_piece(bench: H2Bench) -> None:
    bench.read()
    bench.send(bench.call(1, b"faces"))
    (call,) = bench.calls
    assert (call.messages, call.ended) == ([b"faces"], True)
    call.stream.answer(b"classes")
    headers, data, trailers = bench.read()
    assert bench.decoded(headers) == {":status": "200", "content-type": "application/grpc"}
    assert (data.payload, data.flags) == (message_bytes(b"classes"), 0)
    assert bench.decoded(trailers) == {"grpc-status": "0"}
    assert trailers.flags & END_STREAM


def test_a_message_may_come_in_any_number_of_frames(bench: H2Bench) -> None:
    call = bench.open(1)
    for byte in message_bytes(b"faces"):
        bench.send(bench.data(1, bytes([byte])))
    bench.send(bench.data(1, b"", end=True))
    assert (call.messages, call.ended) == ([b"faces"], True)


def test_padding_and_priority_are_cut_away(bench: H2Bench) -> None:
    block = bench.block([(":method", "POST"), (":scheme", "http"), (":path", "/x/Y"), (":authority", "x")])
    headers = bytes([3]) + bytes(5) + block + bytes(3)
    flags = END_HEADERS | PADDED | PRIORITY_FLAG
    bench.send(write_frame(Kind.HEADERS, flags, 1, headers))
    bench.send(write_frame(Kind.DATA, PADDED | END_STREAM, 1, bytes([4]) + message_bytes(b"faces") + bytes(4)))
    (call,) = bench.calls
    assert (call.head.path, call.messages, call.ended) == ("/x/Y", [b"faces"], True)


def test_a_header_block_may_be_continued_and_trailers_end_a_call(bench: H2Bench) -> None:
    block = bench.block([(":method", "POST"), (":scheme", "http"), (":path", "/x/Y"), (":authority", "x")])
    bench.send(
        write_frame(Kind.HEADERS, 0, 1, block[:2]),
        write_frame(Kind.CONTINUATION, 0, 1, block[2:5]),
        write_frame(Kind.CONTINUATION, END_HEADERS, 1, block[5:]),
        bench.data(1, message_bytes(b"faces")),
        write_frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, bench.block([("x-end", "1")])),
    )
    (call,) = bench.calls
    assert (call.messages, call.ended) == ([b"faces"], True)


def test_a_ping_is_answered_with_what_it_carries(bench: H2Bench) -> None:
    bench.read()
    (pong,) = bench.send(write_frame(Kind.PING, 0, 0, b"12345678"))
    assert (pong.kind, pong.flags, pong.payload) == (Kind.PING, ACK, b"12345678")


def test_what_is_unknown_or_of_no_use_is_ignored(bench: H2Bench) -> None:
    bench.read()
    unknown = write_frame(0xFA, 0xFF, 1, b"extension")
    priority = write_frame(Kind.PRIORITY, 0, 1, bytes(5))
    settings = write_frame(Kind.SETTINGS, 0, 0, b"\x77\x77" + bytes(4))
    assert kinds(bench.send(unknown, priority, settings, write_settings({}))) == []
    bench.send(bench.call(1))
    assert bench.calls[0].ended
    assert bench.error_code() is None


def test_a_caller_that_leaves_cancels_its_call_alone(bench: H2Bench) -> None:
    bench.send(bench.call(1), bench.call(3), write_reset(1, ErrorCode.CANCEL))
    first, second = bench.calls
    assert (first.cancelled, second.cancelled) == (True, False)
    second.stream.answer(b"")
    assert kinds(bench.read())[-3:] == [Kind.HEADERS, Kind.DATA, Kind.HEADERS]


def test_an_answer_waits_for_the_windows_of_the_stream_and_the_connection() -> None:
    bench = H2Bench(begin=False)
    bench.send(PREFACE + write_settings({Setting.INITIAL_WINDOW_SIZE: 4}))
    bench.send(bench.call(1))
    (call,) = bench.calls
    bench.read()
    call.stream.answer(b"classes")
    _, first = bench.read()
    assert first.payload == message_bytes(b"classes")[:4]
    (second,) = bench.send(write_window_update(1, 3))
    assert second.payload == message_bytes(b"classes")[4:7]
    third, trailers = bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 100}))[-2:]
    assert (third.payload, trailers.kind) == (message_bytes(b"classes")[7:], Kind.HEADERS)


def test_the_window_of_the_connection_holds_all_streams_back(bench: H2Bench) -> None:
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 2**20}), bench.call(1), bench.call(3))
    bench.read()
    for call in bench.calls:
        call.stream.answer(bytes(40_000))
    sent = sum(len(frame.payload) for frame in bench.read() if frame.kind == Kind.DATA)
    assert sent == 65_535
    frames = bench.send(write_window_update(0, 100_000))
    assert sent + sum(len(frame.payload) for frame in frames if frame.kind == Kind.DATA) == 2 * 40_005
    assert [frame.stream_id for frame in frames if frame.kind == Kind.HEADERS] == [3]


def test_answers_keep_to_the_longest_frame_of_the_peer(bench: H2Bench) -> None:
    bench.send(bench.call(1))
    bench.read()
    bench.calls[0].stream.answer(bytes(50_000))
    data = [frame for frame in bench.read() if frame.kind == Kind.DATA]
    assert [len(frame.payload) for frame in data] == [16_384, 16_384, 16_384, 50_005 - 3 * 16_384]


def test_a_window_that_shrank_below_nothing_is_filled_first(bench: H2Bench) -> None:
    bench.send(bench.headers(1))
    (call,) = bench.calls
    call.stream.send(bytes(1000))
    bench.read()
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    call.stream.send(bytes(10))
    bench.read()
    assert not any(frame.payload for frame in bench.send(write_window_update(1, 1005)))
    assert [len(frame.payload) for frame in bench.send(write_window_update(1, 15))] == [15]


def test_of_settings_that_come_twice_the_last_one_holds(bench: H2Bench) -> None:
    again = b"".join(
        Setting.INITIAL_WINDOW_SIZE.to_bytes(2) + _number(value) for value in (2**31 - 1, 0, 2**31 - 1, 9)
    )
    bench.send(bench.headers(1), write_frame(Kind.SETTINGS, 0, 0, again))
    bench.read()
    bench.calls[0].stream.send(bytes(100))
    assert [len(frame.payload) for frame in bench.read() if frame.kind == Kind.DATA] == [9]


def test_a_peer_that_keeps_no_table_of_headers_learns_that_none_is_used(bench: H2Bench) -> None:
    bench.send(write_settings({Setting.HEADER_TABLE_SIZE: 0}) * 2, bench.call(1), bench.call(3))
    bench.read()
    bench.calls[0].stream.answer(b"")
    bench.calls[1].stream.answer(b"")
    blocks = [frame.payload for frame in bench.read() if frame.kind == Kind.HEADERS]
    decoder = Decoder()
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    read = [dict(decoder.decode(block)) for block in blocks]
    assert [each.get("grpc-status") for each in read] == [None, None, "0", "0"]
    assert blocks[0][:1] == b"\x20"  # the size of the table, 0, comes first (RFC 7541, 4.2)


def test_a_message_that_is_too_long_is_rejected_before_it_comes(bench: H2Bench) -> None:
    call = bench.open(1)
    bench.send(bench.data(1, message_bytes(bytes(1_000_001))[:10]))
    (fault,) = call.errors
    assert isinstance(fault, LimitExceededError)
    assert fault.metadata["value"] == "1000001"


def test_a_stream_whose_messages_cannot_be_read_is_reported_once(bench: H2Bench) -> None:
    call = bench.open(1)
    call.is_unary = False
    bench.send(bench.data(1, b"\x01" + bytes(1000)), bench.data(1, bytes(1000)), bench.data(1, bytes(1000)))
    assert len(call.errors) == 1


def test_a_stream_that_ends_within_a_message_is_reported(bench: H2Bench) -> None:
    call = bench.open(1)
    bench.send(bench.data(1, message_bytes(b"faces")[:-1], end=True))
    assert [str(fault) for fault in call.errors] == ["The stream ended within a message."]
    assert not call.ended


def test_an_answer_before_the_end_of_the_request_skips_the_rest(bench: H2Bench) -> None:
    call = bench.open(1)
    bench.read()
    call.stream.finish(OK)
    trailers, reset = bench.read()
    assert (trailers.kind, reset.kind, reset.payload) == (Kind.HEADERS, Kind.RST_STREAM, _number(0))
    bench.send(bench.data(1, message_bytes(b"faces"), end=True))  # was on its way
    assert bench.error_code() is None


HEADERS_OF_NONE = write_frame(Kind.HEADERS, END_HEADERS, 0, b"\x82")
TO_THE_CONNECTION: dict[str, tuple[bytes, ErrorCode]] = {
    "data after the end": (write_frame(Kind.DATA, 0, 5, b"more"), ErrorCode.STREAM_CLOSED),
    "headers after the end": (
        write_frame(Kind.HEADERS, END_HEADERS | END_STREAM, 5, b"\x82"),
        ErrorCode.STREAM_CLOSED,
    ),
    "data of no stream": (write_frame(Kind.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data of a stream to come": (write_frame(Kind.DATA, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "headers of no stream": (HEADERS_OF_NONE, ErrorCode.PROTOCOL_ERROR),
    "headers of a server's stream": (write_frame(Kind.HEADERS, END_HEADERS, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "headers that are no HPACK": (
        write_frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "more padding than data": (write_frame(Kind.HEADERS, PADDED, 1, b"\x09x"), ErrorCode.PROTOCOL_ERROR),
    "headers without their priority": (
        write_frame(Kind.HEADERS, PRIORITY_FLAG | END_HEADERS, 1, b"x"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "a continuation of nothing": (write_frame(Kind.CONTINUATION, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "another frame within a header block": (
        write_frame(Kind.HEADERS, 0, 1, b"\x82") + write_frame(Kind.PING, 0, 0, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a continuation of another stream": (
        write_frame(Kind.HEADERS, 0, 1, b"\x82") + write_frame(Kind.CONTINUATION, END_HEADERS, 3, b"x"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a frame of a message that is too long": (
        write_frame(Kind.DATA, 0, 1, bytes(limits.DATA_FRAME_BYTES + 1)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "another frame that is too long": (
        write_frame(0xFA, 0, 0, bytes(limits.DATA_FRAME_BYTES + 1)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "a short ping": (write_frame(Kind.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a ping of a stream": (write_frame(Kind.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a short reset": (write_frame(Kind.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a reset of a stream to come": (write_reset(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "a push": (write_frame(Kind.PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "settings of a stream": (write_frame(Kind.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings of five bytes": (write_frame(Kind.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (write_frame(Kind.SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "a window above 31 bits": (
        write_settings({Setting.INITIAL_WINDOW_SIZE: 2**31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a frame size that is none": (write_settings({Setting.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "a push setting that is none": (write_settings({Setting.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "a window that overflows": (write_window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "a window that grows by nothing": (write_window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window of a stream to come": (write_window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "a goaway of a stream": (write_frame(Kind.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("sent", "code"), TO_THE_CONNECTION.values(), ids=TO_THE_CONNECTION)
def test_a_fault_of_the_connection_ends_it_with_its_code(bench: H2Bench, sent: bytes, code: ErrorCode) -> None:
    bench.send(bench.call(5))
    bench.send(sent)
    assert bench.error_code() == code
    assert bench.connection.over
    assert bench.calls[0].cancelled


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n\r\n", PREFACE + write_frame(Kind.PING, 0, 0, bytes(8)), b"PRI * HTTP/2.0\r\n\r\nXX"],
)
def test_what_is_no_beginning_of_http2_ends_the_connection(first: bytes) -> None:
    bench = H2Bench(begin=False)
    for byte in first:
        bench.send(bytes([byte]))
    assert bench.error_code() == ErrorCode.PROTOCOL_ERROR


OF_A_STREAM: dict[str, tuple[Callable[[H2Bench], bytes], ErrorCode]] = {
    "a name in capitals": (lambda bench: bench.headers(1, X="y"), ErrorCode.PROTOCOL_ERROR),
    "a header of connections": (lambda bench: bench.headers(1, upgrade="h2c"), ErrorCode.PROTOCOL_ERROR),
    "no path": (lambda bench: bench.headers(1, path=""), ErrorCode.PROTOCOL_ERROR),
    "an own pseudo header": (
        lambda bench: write_frame(Kind.HEADERS, END_HEADERS, 1, bench.block([(":status", "200")])),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers in the middle": (
        lambda bench: bench.headers(1) + bench.headers(1),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("sent", "code"), OF_A_STREAM.values(), ids=OF_A_STREAM)
def test_a_fault_of_a_stream_resets_it_and_no_other(
    bench: H2Bench, sent: Callable[[H2Bench], bytes], code: ErrorCode
) -> None:
    frames = bench.send(sent(bench))
    resets = [
        (frame.stream_id, int.from_bytes(frame.payload)) for frame in frames if frame.kind == Kind.RST_STREAM
    ]
    assert resets == [(1, code)]
    assert all(call.cancelled for call in bench.calls)
    bench.send(bench.call(3))
    assert bench.calls[-1].ended
    assert bench.error_code() is None


def test_a_failure_of_the_servers_own_ends_the_connection_and_not_the_process(bench: H2Bench) -> None:
    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    call = bench.open(1)
    call.on_message = fail  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        bench.send(bench.data(1, message_bytes(b"faces"), end=True))
    assert bench.error_code() == ErrorCode.INTERNAL_ERROR
    assert call.cancelled
    assert [entry["event"] for entry in logs] == ["connection failed"]


# Leaving


def test_who_is_asked_to_leave_may_finish_and_what_was_on_its_way_is_answered(bench: H2Bench) -> None:
    bench.send(bench.call(1))
    bench.read()
    bench.connection.leave()
    first, ping = bench.read()
    assert (first.kind, first.payload) == (Kind.GOAWAY, _number(2**31 - 1) + _number(0))
    bench.send(bench.call(3))  # sent before it has heard
    (last,) = bench.send(write_frame(Kind.PING, ACK, 0, ping.payload))
    assert last.payload == _number(3) + _number(0)
    bench.send(bench.call(5))  # nobody answers this
    assert len(bench.calls) == 2
    bench.calls[0].stream.answer(b"")
    assert not bench.connection.over
    bench.calls[1].stream.answer(b"")
    bench.read()
    assert bench.connection.over


def test_who_does_not_say_that_it_has_heard_is_left_all_the_same(bench: H2Bench) -> None:
    bench.connection.leave()
    bench.now += limits.HANDSHAKE_S + 1
    bench.connection.check_times(bench.now)
    assert bench.connection.over


def test_limits_are_those_of_the_settings() -> None:
    bench = H2Bench(replace(LIMITS, max_metadata_bytes=1024))
    settings = bench.frames[0].payload
    assert (Setting.MAX_HEADER_LIST_SIZE.to_bytes(2) + _number(2048)) in settings
