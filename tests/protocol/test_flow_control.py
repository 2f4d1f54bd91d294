"""Tests the bounds on bytes that a client may send ahead."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.http2 import limits
from support.http2 import H2Bench, message_bytes
from support.http2_frames import PADDED, ErrorCode, Frame, Kind, write_frame


@pytest.fixture
def bench() -> H2Bench:
    return H2Bench()


def test_a_long_message_gets_the_room_it_needs_and_no_more(bench: H2Bench) -> None:
    call = bench.open(1)
    message = message_bytes(bytes(900_000))
    granted, sent = limits.STREAM_WINDOW_BYTES, 0
    while sent < len(message):
        assert granted > sent
        part = message[sent : min(granted, sent + 16_000)]
        sent += len(part)
        frames = bench.send(bench.data(1, part))
        granted += sum(int.from_bytes(f.payload) for f in frames if f.kind == Kind.WINDOW_UPDATE and f.stream_id)
    # More than the message, because nghttp2 looks for the end only while it may send something.
    assert len(message) < granted <= len(message) + limits.STREAM_WINDOW_BYTES
    assert call.messages == [bytes(900_000)]


@pytest.mark.parametrize("byte_count", [limits.STREAM_WINDOW_BYTES - 5, limits.STREAM_WINDOW_BYTES, 900_000])
@pytest.mark.parametrize("padding", [0, 1, 255])
def test_a_message_leaves_something_of_the_window_for_its_end(
    bench: H2Bench, byte_count: int, padding: int
) -> None:
    call = bench.open(1)
    message = message_bytes(bytes(byte_count))
    left = limits.STREAM_WINDOW_BYTES
    while message and left > 0:
        extra = min(1 + padding, left - 1) if padding else 0
        part = message[: min(left - extra, 15_000)]
        message = message[len(part) :]
        left -= len(part) + extra
        payload = bytes([extra - 1]) + part + bytes(extra - 1) if extra else part
        frames = bench.send(write_frame(Kind.DATA, PADDED if extra else 0, 1, payload))
        left += sum(int.from_bytes(f.payload) for f in frames if f.kind == Kind.WINDOW_UPDATE and f.stream_id)
    assert call.messages == [bytes(byte_count)]
    assert left > 0


def test_long_messages_get_their_room_one_by_one(bench: H2Bench) -> None:
    """Two of them do not fit at once, and do not wait for each other indefinitely."""
    message = message_bytes(bytes(900_000))
    granted = {1: limits.STREAM_WINDOW_BYTES, 3: limits.STREAM_WINDOW_BYTES}
    sent = {1: 0, 3: 0}
    bench.send(bench.headers(1), bench.headers(3))
    order = []
    while min(sent.values()) < len(message):
        before = dict(sent)
        for stream_id, at in before.items():
            part = message[at : min(granted[stream_id], at + 16_000)]
            sent[stream_id] += len(part)
            for frame in bench.send(bench.data(stream_id, part)) if part else []:
                if frame.kind == Kind.WINDOW_UPDATE and frame.stream_id:
                    granted[frame.stream_id] += int.from_bytes(frame.payload)
                    order.append(frame.stream_id)
        assert sent != before
    assert [stream_id for stream_id, _ in groupby(order)] == [1, 3]
    assert [len(call.messages) for call in bench.calls] == [1, 1]


@given(
    st.lists(
        st.sampled_from([1, 100, 15_000, 200_000, limits.STREAM_WINDOW_BYTES, 400_000, 900_000]), max_size=12
    ),
    st.integers(0, 3),
    st.sampled_from([16_000, limits.DATA_FRAME_BYTES]),
)
def test_long_messages_of_a_stream_arrive_one_after_the_other(
    byte_counts: list[int], busy_share: int, frame_bytes: int
) -> None:
    """The window is back at its size after each, however long the one before it was."""
    bench = H2Bench()
    call = bench.open(1)
    call.is_unary = False
    credit = limits.STREAM_WINDOW_BYTES
    for number, byte_count in enumerate(byte_counts):
        call.ready = busy_share == 0 or number % (busy_share + 1) > 0
        message = message_bytes(bytes(byte_count))
        while message:
            if credit == 0 and not call.ready:  # rightly: earlier messages were not taken
                call.ready = True
                call.stream.deliver()
                credit += _granted(bench.read())
            part = message[: min(credit, frame_bytes)]
            assert part
            message = message[len(part) :]
            credit += _granted(bench.send(bench.data(1, part))) - len(part)
            assert credit <= limits.STREAM_WINDOW_BYTES
            # Messages that are not taken hold the window, and no more than it.
            assert bench.memory.buffer.held_bytes <= max(byte_counts) + 2 * limits.STREAM_WINDOW_BYTES
    call.ready = True
    call.stream.deliver()
    bench.read()
    assert [len(each) for each in call.messages] == byte_counts
    assert (call.stream.held_bytes, call.stream.acknowledged_bytes, bench.memory.buffer.held_bytes) == (0, 0, 0)


def _granted(frames: list[Frame]) -> int:
    return sum(
        int.from_bytes(frame.payload)
        for frame in frames
        if frame.kind == Kind.WINDOW_UPDATE and frame.stream_id == 1
    )


def test_a_stream_may_send_on_only_as_its_messages_are_taken(bench: H2Bench) -> None:
    call = bench.open(1)
    call.is_unary = call.ready = False
    message = message_bytes(bytes(15_000))
    count = limits.STREAM_WINDOW_BYTES // len(message)
    frames = bench.send(*(bench.data(1, message) for _ in range(count)))
    assert ([frame for frame in frames if frame.stream_id == 1], call.messages) == ([], [])
    call.ready = True
    call.stream.deliver()
    assert len(call.messages) == count
    (update,) = [frame for frame in bench.read() if frame.stream_id == 1]
    assert update.kind == Kind.WINDOW_UPDATE
    assert int.from_bytes(update.payload) >= limits.STREAM_WINDOW_BYTES // 2
    call.ready = False
    bench.send(*(bench.data(1, message) for _ in range(5 + count)))
    assert bench.error_code() == ErrorCode.FLOW_CONTROL_ERROR


def test_messages_that_are_not_taken_hold_no_more_than_the_window(bench: H2Bench) -> None:
    call = bench.open(1)
    call.is_unary = call.ready = False
    data = message_bytes(bytes(60_000)) * 20
    credit = limits.STREAM_WINDOW_BYTES
    while credit:
        part, data = data[: min(credit, 16_000)], data[min(credit, 16_000) :]
        credit += _granted(bench.send(bench.data(1, part))) - len(part)
    assert bench.memory.buffer.held_bytes == limits.STREAM_WINDOW_BYTES
    bench.now += limits.MESSAGE_S + 1  # the peer is not to blame for the part of a message that it could send
    bench.connection.check_times(bench.now)
    call.ready = True
    call.stream.deliver()
    credit += _granted(bench.read())
    assert credit > limits.DATA_FRAME_BYTES
    bench.send(bench.data(1, data[: limits.DATA_FRAME_BYTES]))
    assert (len(call.messages), call.errors) == (6, [])


def test_whole_messages_of_a_stream_are_delivered_in_order_whether_or_not_it_is_ready(bench: H2Bench) -> None:
    call = bench.open(1)
    call.is_unary = False
    messages = [bytes([at]) * 1000 for at in range(6)]
    bench.send(bench.data(1, message_bytes(messages[0])))
    assert bench.memory.buffer.held_bytes == 0
    call.ready = False
    bench.send(bench.data(1, message_bytes(messages[1])), bench.data(1, message_bytes(messages[2])))
    assert (call.messages, bench.memory.buffer.held_bytes) == (messages[:1], 2 * 1005)
    call.ready = True
    bench.send(bench.data(1, message_bytes(messages[3])))
    assert (call.messages, bench.memory.buffer.held_bytes) == (messages[:4], 0)
    bench.send(bench.data(1, message_bytes(messages[4])), bench.data(1, message_bytes(messages[5]), end=True))
    assert (call.messages, call.ended) == (messages, True)
