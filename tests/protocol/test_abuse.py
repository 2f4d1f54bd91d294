"""Tests the bounds on the cost of one connection: floods, bombs, and peers that let others wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferserve_server.grpc.trailers import OK
from ferserve_server.http2 import limits
from support.http2 import H2Bench, message_bytes
from support.http2_frames import (
    END_HEADERS,
    MAX_FRAME_BYTES,
    PREFACE,
    ErrorCode,
    Kind,
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


def test_a_header_block_that_is_continued_without_end_ends_the_connection(bench: H2Bench) -> None:
    bench.send(write_frame(Kind.HEADERS, 0, 1, b"\x00"))
    for _ in range(20):
        bench.send(write_frame(Kind.CONTINUATION, 0, 1, bytes(1000)))
    assert bench.error_code() == ErrorCode.ENHANCE_YOUR_CALM


def test_empty_continuations_without_end_end_the_connection(bench: H2Bench) -> None:
    bench.send(write_frame(Kind.HEADERS, 0, 1, b""))
    bench.send(write_frame(Kind.CONTINUATION, 0, 1) * 2000)
    assert bench.error_code() == ErrorCode.ENHANCE_YOUR_CALM


def test_few_bytes_that_say_a_great_deal_end_the_connection(bench: H2Bench) -> None:
    """A block of references to one long line of the table."""
    long = [("x-long", "y" * 3000)]
    bench.send(write_frame(Kind.HEADERS, END_HEADERS, 1, bench.block(long)))
    bench.send(write_frame(Kind.HEADERS, END_HEADERS, 3, bench.block(long * 1000)))
    assert bench.error_code() == ErrorCode.ENHANCE_YOUR_CALM


def test_streams_beyond_the_bound_are_rejected_until_the_peer_knows_it() -> None:
    bench = H2Bench(begin=False)
    bench.send(PREFACE + write_settings({}))
    numbers = range(1, 2 * limits.MAX_STREAMS + 5, 2)
    frames = bench.send(*(bench.headers(number) for number in numbers))
    rejected = [frame for frame in frames if frame.kind == Kind.RST_STREAM]
    assert [frame.stream_id for frame in rejected] == list(numbers)[limits.MAX_STREAMS :]
    assert {frame.payload for frame in rejected} == {_number(ErrorCode.REFUSED_STREAM)}
    bench.calls[0].stream.finish(OK)
    bench.read()
    bench.send(bench.headers(numbers[-1] + 2))
    assert len(bench.calls) == limits.MAX_STREAMS + 1


def test_a_peer_that_knows_the_bound_and_opens_more_streams_ends_its_connection(bench: H2Bench) -> None:
    bench.send(*(bench.headers(number) for number in range(1, 2 * limits.MAX_STREAMS + 5, 2)))
    assert bench.error_code() == ErrorCode.PROTOCOL_ERROR


FLOODS: dict[str, Callable[[H2Bench, int], bytes]] = {
    "pings": lambda *_: write_frame(Kind.PING, 0, 0, bytes(8)),
    "settings": lambda *_: write_settings({}),
    "priorities": lambda *_: write_frame(Kind.PRIORITY, 0, 1, bytes(5)),
    "window updates": lambda *_: write_window_update(0, 1),
    "unknown frames": lambda *_: write_frame(0xFA, 0, 0),
    "empty data": lambda *_: write_frame(Kind.DATA, 0, 1),
    "data by the byte": lambda bench, at: bench.data(1, message_bytes(bytes(900_000))[at : at + 1]),
    "rapid resets": lambda bench, at: bench.call(3 + 2 * at) + write_reset(3 + 2 * at, ErrorCode.CANCEL),
    "broken streams": lambda bench, at: bench.headers(3 + 2 * at, upgrade="x"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_work_without_use_ends_the_connection(
    bench: H2Bench, flood: Callable[[H2Bench, int], bytes]
) -> None:
    bench.send(bench.headers(1))
    for at in range(30_000):  # what costs nearly nothing may come 20,000 times
        bench.send(flood(bench, at))
        if bench.connection.over:
            break
    assert bench.error_code() == ErrorCode.ENHANCE_YOUR_CALM
    assert all(call.cancelled for call in bench.calls)


def test_who_is_rejected_may_have_whole_windows_on_their_way(bench: H2Bench) -> None:
    for round_number in range(4):
        numbers = [1 + 2 * (round_number * limits.MAX_STREAMS + at) for at in range(limits.MAX_STREAMS)]
        for number in numbers:
            bench.open(number).stream.finish(OK)
        for number in numbers:
            for _ in range(limits.STREAM_WINDOW_BYTES // MAX_FRAME_BYTES):
                bench.send(bench.data(number, bytes(MAX_FRAME_BYTES)))
    assert bench.error_code() is None


def test_a_busy_client_may_ping_and_update_its_windows_with_every_answer(bench: H2Bench) -> None:
    for at in range(5000):
        bench.send(bench.call(1 + 2 * at))
        bench.calls.pop().stream.answer(b"classes")
        bench.send(write_window_update(0, 12), write_frame(Kind.PING, 0, 0, bytes(8)))
    assert bench.error_code() is None


def test_a_client_whose_deadlines_pass_keeps_its_connection(bench: H2Bench) -> None:
    for round_number in range(20):
        numbers = [1 + 2 * (round_number * limits.MAX_STREAMS + at) for at in range(limits.MAX_STREAMS)]
        bench.send(*(bench.call(number) for number in numbers))
        bench.now += 1.1 * limits.EARLY_RESET_S
        bench.send(*(write_reset(number, ErrorCode.CANCEL) for number in numbers))
    assert bench.error_code() is None
    assert all(call.cancelled for call in bench.calls)


def test_a_quiet_client_may_ping_indefinitely(bench: H2Bench) -> None:
    for _ in range(5000):
        bench.now += 0.1
        bench.send(write_frame(Kind.PING, 0, 0, bytes(8)))
    assert bench.error_code() is None


# Time


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE, PREFACE + write_settings({})[:5]])
def test_a_connection_that_does_not_begin_ends(sent: bytes) -> None:
    bench = H2Bench(begin=False)
    bench.send(sent)
    bench.now += limits.HANDSHAKE_S
    bench.connection.check_times(bench.now)
    assert not bench.connection.over
    bench.now += 1
    bench.connection.check_times(bench.now)
    assert bench.connection.over


@pytest.mark.parametrize("sent", [b"", message_bytes(b"faces")[:3], message_bytes(b"faces")[:7]])
def test_a_call_whose_message_does_not_come_ends(bench: H2Bench, sent: bytes) -> None:
    call = bench.open(1)
    if sent:
        bench.send(bench.data(1, sent))
    bench.now += limits.MESSAGE_S
    bench.connection.check_times(bench.now)
    assert not call.errors
    bench.now += 1
    bench.connection.check_times(bench.now)
    assert "did not come within" in str(call.errors[0])


def test_a_call_that_does_not_end_its_request_ends(bench: H2Bench) -> None:
    call = bench.open(1)
    bench.send(bench.data(1, message_bytes(b"faces")))
    bench.now += limits.MESSAGE_S + 1
    bench.connection.check_times(bench.now)
    assert "did not come within" in str(call.errors[0])


def test_a_stream_may_be_silent_before_and_between_its_messages_and_not_within(bench: H2Bench) -> None:
    call = bench.open(1)
    call.is_unary = False
    for _ in range(3):
        bench.now += 10 * limits.MESSAGE_S
        bench.connection.check_times(bench.now)
        bench.send(bench.data(1, message_bytes(b"faces")))
    assert not call.errors
    bench.send(bench.data(1, message_bytes(b"faces")[:7]))
    bench.now += limits.MESSAGE_S + 1
    for _ in range(3):
        bench.connection.check_times(bench.now)
    assert ["did not come within" in str(fault) for fault in call.errors] == [True]
