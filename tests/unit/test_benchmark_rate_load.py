"""Tests the load at a fixed rate: the frames of a call, the required server settings, and its answers."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from load.answer_blocks import AnswerBlocks, plain_status
from load.call_frames import FIRST_WINDOW, MAX_WINDOW, CallFrames, beginning, header_block
from load.frames import (
    ACK,
    END_STREAM,
    PREFACE,
    ErrorCode,
    FrameReader,
    Kind,
    Setting,
    literal,
    write_frame,
    write_go_away,
    write_headers,
    write_reset,
    write_settings,
    write_window_update,
)
from load.lane import Lane, OpenCall

from ferserve_server.domain.errors import DeadlineUnmeetableError
from ferserve_server.grpc.trailers import OK, RESPONSE_HEADERS, error_trailers
from support.http2 import message_bytes

MESSAGE = bytes(range(256)) * 300
BODY_BYTES = len(MESSAGE) + 5
BLOCK = header_block("127.0.0.1:50051", "/ferserve.v1.EmotionService/ClassifyFaces", 1.5)


def _block(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(literal(name, value) for name, value in headers)


BEGIN_BLOCK, OK_BLOCK = _block(RESPONSE_HEADERS), _block(OK)
REJECTED = _block(RESPONSE_HEADERS + error_trailers(DeadlineUnmeetableError(remaining_s=1, expected_s=2)))


def test_the_headers_of_a_call_say_what_grpc_asks_for_and_leave_no_trace():
    decoder = Decoder()

    headers = dict(decoder.decode(BLOCK))

    assert headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/ferserve.v1.EmotionService/ClassifyFaces",
        ":authority": "127.0.0.1:50051",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": "1500m",
    }
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize("timeout_s", [1e-9, 1e9])
def test_a_timeout_has_eight_digits_at_most_and_is_not_nothing(timeout_s):
    headers = dict(Decoder().decode(header_block("a:1", "/b", timeout_s)))

    assert 1 <= int(headers["grpc-timeout"][:-1]) <= 99_999_999


@pytest.mark.parametrize("room", [1, 16_384, 16_385, 50_000, BODY_BYTES])
def test_the_data_of_a_call_are_the_message_in_frames_that_fit(room):
    frames, sent = CallFrames(BLOCK, MESSAGE), b""

    while len(sent) < frames.byte_count:
        found = FrameReader().feed(b"".join(frames.data(7, len(sent), room, 16_384)))
        assert all(frame.kind == Kind.DATA and frame.stream_id == 7 for frame in found)
        assert sum(len(frame.payload) for frame in found) <= room
        assert all(len(frame.payload) <= 16_384 for frame in found)
        sent += b"".join(frame.payload for frame in found)
        ends = [bool(frame.flags & END_STREAM) for frame in found]
        assert ends == [False] * (len(found) - 1) + [len(sent) == frames.byte_count]
        if room == 1 and len(sent) > 20:
            return
    assert sent == message_bytes(MESSAGE)


@pytest.mark.parametrize(("block", "status"), [(BEGIN_BLOCK, ""), (OK_BLOCK, "0"), (REJECTED, "4")])
def test_the_status_of_plain_blocks_is_found_without_a_table(block, status):
    assert plain_status(block) == status


@pytest.mark.parametrize("block", [b"\xbe", b"\x40\x01a\x01b", b"\x20", b"\x00\x81\x1f\x01b", b"\x0f\x30\x01b"])
def test_a_block_that_needs_or_changes_a_table_is_not_plain(block):
    assert plain_status(block) is None


def test_blocks_with_a_table_mean_what_the_library_reads():
    encoder, blocks = Encoder(), AnswerBlocks()
    begin, ok, rejected = (
        [(":status", "200")],
        [("grpc-status", "0")],
        [("grpc-status", "8"), ("grpc-message", "é")],
    )

    for headers, status in [(begin, ""), (ok, "0"), (ok, "0"), (rejected, "8"), (ok, "0"), (rejected, "8")] * 2:
        assert blocks.status(encoder.encode(headers)) == status
    encoder.header_table_size = 0
    for headers, status in [(ok, "0"), (rejected, "8"), (ok, "0")]:
        assert blocks.status(encoder.encode(headers)) == status


class Bench:
    """A lane, and what its server would see of it."""

    def __init__(self, **settings):
        self.ended = []
        self.lane = Lane(CallFrames(BLOCK, MESSAGE), lambda call, code: self.ended.append((call, code)))
        self._reader = FrameReader(2**24)
        assert self.take() == beginning()
        self.hear(write_settings({Setting[name]: value for name, value in settings.items()}))
        assert [(frame.kind, frame.flags) for frame in self.frames()] == [(Kind.SETTINGS, ACK)]

    def take(self):
        data = b"".join(self.lane.unsent)
        self.lane.unsent.clear()
        return data

    def frames(self):
        return self._reader.feed(self.take())

    def begin(self):
        call = OpenCall(1.0, 2.0)
        self.lane.begin(call)
        return call

    def hear(self, *parts):
        self.lane.receive(b"".join(parts))

    def sent_bytes(self):
        return sum(len(frame.payload) for frame in self.frames() if frame.kind == Kind.DATA)


def ok(stream_id):
    return (
        write_headers(stream_id, BEGIN_BLOCK, 0)
        + write_frame(Kind.DATA, 0, stream_id, message_bytes(b"classes"))
        + write_headers(stream_id, OK_BLOCK, END_STREAM)
    )


WIDE = {"INITIAL_WINDOW_SIZE": 2**20, "MAX_FRAME_SIZE": 2**17}


def wide():
    bench = Bench(**WIDE)
    bench.hear(write_window_update(0, 2**24))
    return bench


def test_a_connection_begins_with_windows_that_no_answer_fills():
    assert beginning().startswith(PREFACE)
    settings, window = FrameReader().feed(beginning()[len(PREFACE) :])

    assert (settings.kind, window.kind) == (Kind.SETTINGS, Kind.WINDOW_UPDATE)
    assert int.from_bytes(window.payload) + FIRST_WINDOW == MAX_WINDOW


def test_a_call_is_sent_whole_where_the_server_takes_it_and_its_answer_counts():
    bench = wide()

    call = bench.begin()
    headers, data = bench.frames()
    bench.hear(ok(1))

    assert (headers.kind, data.payload, data.flags) == (Kind.HEADERS, message_bytes(MESSAGE), END_STREAM)
    assert bench.ended == [(call, "")]
    assert call.ended
    assert not bench.frames()


def test_calls_have_streams_of_their_own_and_their_answers_may_come_in_any_order():
    bench = wide()
    first, second = bench.begin(), bench.begin()

    bench.hear(ok(3), write_headers(1, REJECTED, END_STREAM))

    assert bench.ended == [(second, ""), (first, "DEADLINE_EXCEEDED")]


def test_a_call_waits_for_the_windows_of_connection_and_stream():
    bench = Bench()
    bench.begin()
    assert bench.sent_bytes() == FIRST_WINDOW

    bench.hear(write_window_update(1, 10_000))
    assert bench.sent_bytes() == 0  # the connection has no room
    bench.hear(write_window_update(0, 5_000))
    assert bench.sent_bytes() == 5_000
    bench.hear(write_window_update(0, 2**20))
    assert bench.sent_bytes() == 5_000  # the stream has no more
    bench.hear(write_settings({Setting.INITIAL_WINDOW_SIZE: 2**20}))
    assert bench.sent_bytes() == BODY_BYTES - FIRST_WINDOW - 10_000


def test_a_window_may_become_smaller_than_what_was_sent():
    bench = wide()
    bench.hear(write_settings({Setting.INITIAL_WINDOW_SIZE: 1_000}))
    bench.begin()
    assert bench.sent_bytes() == 1_000
    bench.hear(write_settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    bench.hear(write_window_update(1, 1_000))
    assert bench.sent_bytes() == 0
    bench.hear(write_window_update(1, 1))
    assert bench.sent_bytes() == 1


def test_calls_beyond_the_streams_that_the_server_takes_wait_for_one():
    bench = Bench(MAX_CONCURRENT_STREAMS=1, **WIDE)
    bench.hear(write_window_update(0, 2**24))
    first, late, third = bench.begin(), bench.begin(), bench.begin()
    assert bench.sent_bytes() == BODY_BYTES
    bench.lane.give_up(late)

    bench.hear(ok(1), ok(3))

    assert bench.ended == [(first, ""), (third, "")]
    assert bench.sent_bytes() == BODY_BYTES


def test_a_call_that_is_given_up_is_reset_and_its_late_answer_is_nothing():
    bench = wide()
    call = bench.begin()
    bench.frames()

    bench.lane.give_up(call)
    (reset,) = bench.frames()
    bench.hear(ok(1))

    assert (reset.kind, int.from_bytes(reset.payload)) == (Kind.RST_STREAM, ErrorCode.CANCEL)
    assert call.ended
    assert not bench.ended


def test_who_is_answered_before_all_is_sent_sends_no_more():
    bench = Bench()
    bench.begin()
    bench.frames()

    bench.hear(write_headers(1, REJECTED, END_STREAM), write_window_update(0, 2**20), write_window_update(1, 1000))

    assert [frame.kind for frame in bench.frames()] == [Kind.RST_STREAM]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (write_headers(1, BEGIN_BLOCK, 0) + write_headers(1, OK_BLOCK, END_STREAM), "NO_MESSAGE"),
        (write_headers(1, BEGIN_BLOCK, END_STREAM), "NO_STATUS"),
        (write_frame(Kind.DATA, END_STREAM, 1, b"x"), "NO_STATUS"),
        (write_reset(1, ErrorCode.REFUSED_STREAM), "RST_STREAM 7"),
    ],
)
def test_what_is_no_answer_has_a_code(answer, code):
    bench = wide()
    call = bench.begin()

    bench.hear(answer)

    assert bench.ended == [(call, code)]


def test_a_ping_is_answered():
    bench = wide()

    bench.hear(write_frame(Kind.PING, 0, 0, b"12345678"), write_frame(Kind.PING, ACK, 0, b"87654321"))

    assert [(frame.kind, frame.flags, frame.payload) for frame in bench.frames()] == [
        (Kind.PING, ACK, b"12345678")
    ]


def test_a_server_that_ends_the_connection_ends_the_load():
    with pytest.raises(ConnectionError, match="calm"):
        wide().hear(write_go_away(1, ErrorCode.ENHANCE_YOUR_CALM, "calm"))
