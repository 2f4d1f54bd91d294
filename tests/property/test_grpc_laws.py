"""The express door: bytes may be cut anywhere, the cache of header blocks changes nothing, windows add up."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import replace
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st
from load.frames import (
    END_STREAM,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    FrameReader,
    Kind,
    StreamFault,
    write_frame,
    write_headers,
    write_reset,
    write_settings,
)

from ferserve_server.grpc.messages import MessageReader, whole_message
from ferserve_server.grpc.request import RequestHead, parse_timeout, read_head
from ferserve_server.grpc.trailers import percent_encoded, status_trailers
from ferserve_server.transport.express.flow import ReceiveWindow
from ferserve_server.transport.express.header_blocks import HeaderBlocks
from ferserve_server.transport.express.room import Room
from support.http2 import LIMITS, H2Bench, call_headers, message_bytes

CUTS = st.lists(st.integers(0, 10_000), max_size=8)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(at)]


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=50))
    ),
    CUTS,
)
def test_frames_are_the_same_however_their_bytes_come(frames: list, cuts: list[int]) -> None:
    data = b"".join(write_frame(*frame) for frame in frames)
    reader = FrameReader()
    assert [tuple(frame) for part in _cut(data, cuts) for frame in reader.feed(part)] == frames


@given(st.lists(st.binary(max_size=60), max_size=6), CUTS)
def test_messages_are_the_same_however_their_bytes_come(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(message_bytes, messages))
    reader = MessageReader(LIMITS)
    assert [message for part in _cut(data, cuts) for message in reader.feed(part)] == messages
    assert not reader.partial


@given(st.binary(max_size=60), st.integers(0, 59))
def test_a_reader_knows_what_its_message_lacks(message: bytes, at: int) -> None:
    data = message_bytes(message)
    reader = MessageReader(LIMITS)
    reader.feed(data[:at])
    if 5 <= at < len(data):
        assert reader.missing == len(data) - at
    assert reader.partial is (0 < at < len(data))


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(message_bytes)))
def test_a_whole_message_is_what_the_reader_reads(data: bytes) -> None:
    limits = replace(LIMITS, max_message_bytes=20)
    reader = MessageReader(limits)
    messages = reader.feed(data)
    alone = len(messages) == 1 and not reader.partial and reader.fault is None
    assert whole_message(data, limits.max_message_bytes) == (messages[0] if alone else None)


NAMES = st.sampled_from(["x-a", "x-b", "user-agent", "authorization", "grpc-timeout"])
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from(["", "1", "10S", "y" * 40, "z" * 1500])), max_size=5)
BLOCKS = st.one_of(
    st.tuples(st.just("encode"), HEADERS),
    st.tuples(st.just("resize"), st.sampled_from([0, 40, 200, 4096])),
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("bytes"), st.binary(max_size=6)),
)


@given(st.lists(BLOCKS, max_size=25))
def test_the_cache_of_header_blocks_changes_nothing(steps: list[tuple[str, object]]) -> None:
    """Blocks as they come and go, old ones again on a table that has changed, and some that are none."""
    encoder, plain, ours = Encoder(), Decoder(8192), HeaderBlocks(8192)
    seen: list[bytes] = []
    for what, value in steps:
        if what == "resize":
            encoder.header_table_size = value
            continue
        if what == "encode":
            block = encoder.encode([*call_headers()[:5], *value])
        elif what == "again":
            block = seen[value % len(seen)] if seen else b""
        else:
            block = bytes(value)
        seen.append(block)
        try:
            expected = _head(plain.decode(block, raw=True))
        except (HPACKError, IndexError):
            with pytest.raises(ConnectionFault):
                ours.read(block)
            return
        for _ in range(2 if expected is not None and not _changes_table(block) else 1):
            assert _read(ours, block) == expected


def _changes_table(block: bytes) -> bool:
    """Whether reading it twice might not be as reading it once; cautious."""
    return any(0x20 <= byte < 0x80 for byte in block)


def _head(headers: list) -> RequestHead | None:
    try:
        return read_head(headers)
    except StreamFault:
        return None


def _read(blocks: HeaderBlocks, block: bytes) -> RequestHead | None:
    try:
        return blocks.read(block)
    except StreamFault:
        return None


@given(st.integers(2, 1000), st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=60))
def test_a_peer_may_always_send_unless_everything_is_held(size: int, steps: list[tuple[bool, int]]) -> None:
    window = ReceiveWindow(size)
    held: deque[int] = deque()
    granted = size
    for comes, byte_count in steps:
        if comes:
            sent = min(byte_count, granted)
            assert window.received(sent)
            granted -= sent
            held.append(sent)
        elif held:
            granted += window.released(held.popleft())
        assert granted == window.left
        assert granted + sum(held) <= size
        # Less than half of the window is kept back.
        assert granted + sum(held) >= size - size / 2
    assert not window.received(granted + 1)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 100), st.booleans()), max_size=60))
def test_room_is_never_given_twice_and_everybody_gets_it_in_turn(steps: list[tuple[int, int, bool]]) -> None:
    room = Room(100)
    asked: deque[int] = deque()
    given_now: dict[int, int] = {}

    def note(given: list[tuple[int, int]]) -> None:
        for stream_id, byte_count in given:
            assert asked.popleft() == stream_id
            given_now[stream_id] = byte_count

    for stream_id, byte_count, leaves in steps:
        if leaves:
            if stream_id in asked:
                asked.remove(stream_id)
            back, given = room.leave(stream_id)
            assert back == given_now.pop(stream_id, 0)
            note(given)
        elif not room.has(stream_id):
            asked.append(stream_id)
            note(room.ask(stream_id, byte_count))
        assert sum(given_now.values()) <= 100
        assert not asked or given_now  # nobody waits while nobody has any
    while given_now:
        stream_id = next(iter(given_now))
        del given_now[stream_id]
        note(room.leave(stream_id)[1])
    assert not asked


@given(st.integers(0, 99_999_999), st.sampled_from("HMSmun"))
def test_a_timeout_is_read_in_its_unit(count: int, unit: str) -> None:
    seconds = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[unit]
    assert parse_timeout(f"{count}{unit}") == pytest.approx(count * seconds)


@given(st.text(max_size=12))
def test_what_is_no_timeout_is_none(text: str) -> None:
    right = 2 <= len(text) <= 9 and text[:-1].isascii() and text[:-1].isdecimal() and text[-1] in "HMSmun"
    assert (parse_timeout(text) is not None) == right


@given(st.text())
def test_a_message_of_a_status_is_printable_and_reads_back(message: str) -> None:
    encoded = percent_encoded(message)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote(encoded.decode()) == message.encode("utf-8", "replace").decode()


@given(st.integers(1, 16), st.text(max_size=300), st.binary(max_size=400))
def test_trailers_say_what_they_are_to_say(code: int, message: str, details: bytes) -> None:
    block = status_trailers(code, message, [("grpc-status-details-bin", details), ("grpc-retry-pushback-ms", "12")])
    found = dict(Decoder().decode(block))
    assert int(found["grpc-status"]) == code
    assert unquote(found.get("grpc-message", "")) == message.encode("utf-8", "replace").decode()
    text = found["grpc-status-details-bin"]
    assert base64.b64decode(text + "=" * (-len(text) % 4)) == details
    assert found["grpc-retry-pushback-ms"] == "12"


@given(
    st.lists(
        st.one_of(
            st.builds(lambda size: ("call", size), st.integers(0, 40_000)),
            st.just(("reset", 0)),
            st.just(("ping", 0)),
            st.just(("garbage", 0)),
        ),
        max_size=8,
    ),
    CUTS,
)
def test_a_connection_does_the_same_however_its_bytes_come(steps: list[tuple[str, int]], cuts: list[int]) -> None:
    encoder, data, stream_id = Encoder(), [PREFACE, write_settings({})], 1
    for what, size in steps:
        if what == "call":
            data.append(write_headers(stream_id, encoder.encode(call_headers()), 0))
            message = message_bytes(bytes(size))
            for at in range(0, len(message), 16_384):
                last = at + 16_384 >= len(message)
                part = message[at : at + 16_384]
                data.append(write_frame(Kind.DATA, END_STREAM if last else 0, stream_id, part))
            stream_id += 2
        elif what == "reset":
            data.append(write_reset(max(1, stream_id - 2), ErrorCode.CANCEL))
        elif what == "ping":
            data.append(write_frame(Kind.PING, 0, 0, bytes(8)))
        else:
            data.append(write_frame(Kind.SETTINGS, 0, 7))
    found = []
    for parts in ([b"".join(data)], _cut(b"".join(data), cuts)):
        bench = H2Bench(begin=False)
        for part in parts:
            bench.send(part)
        calls = [(call.messages, call.ended, call.cancelled) for call in bench.calls]
        found.append((calls, bench.frames, bench.connection.over))
    assert found[0] == found[1]
