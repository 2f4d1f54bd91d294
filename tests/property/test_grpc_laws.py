"""Tests laws of the native gRPC server: bytes may be split anywhere, memory bounds hold, statuses round-trip."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.grpc.messages import MessageReader, whole_message
from ferserve_server.grpc.request import parse_timeout
from ferserve_server.grpc.trailers import percent_encoded, status_trailers
from ferserve_server.http2.flow_control import OversizeWindow, ReceiveBuffer
from support.http2 import LIMITS, H2Bench, call_headers, kinds, message_bytes
from support.http2_frames import (
    END_STREAM,
    PREFACE,
    ErrorCode,
    Kind,
    write_frame,
    write_headers,
    write_reset,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CUTS = st.lists(st.integers(0, 10_000), max_size=8)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(at)]


@given(st.lists(st.binary(max_size=60), max_size=6), CUTS)
def test_messages_are_the_same_however_their_bytes_come(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(message_bytes, messages))
    reader = MessageReader(LIMITS)
    assert [message.data for part in _cut(data, cuts) for message in reader.feed(part)] == messages
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
    alone = len(messages) == 1 and not reader.partial and reader.error is None and not messages[0].compressed
    assert whole_message(data, limits.max_message_bytes) == (messages[0].data if alone else None)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 100), st.booleans()), max_size=60))
def test_oversize_windows_are_never_granted_twice_and_all_get_theirs_one_by_one(
    steps: list[tuple[int, int, bool]],
) -> None:
    window = OversizeWindow(100)
    asked: deque[int] = deque()
    granted: dict[int, int] = {}

    def grant_to(holder: int) -> Callable[[int], None]:
        def grant(byte_count: int) -> None:
            assert asked.popleft() == holder
            granted[holder] = byte_count

        return grant

    for holder, byte_count, leaves in steps:
        if leaves:
            if holder in asked:
                asked.remove(holder)
            expected = granted.pop(holder, 0)
            assert window.give_back(holder) == expected
        elif holder not in asked and holder not in granted:
            asked.append(holder)
            window.ask(holder, byte_count, grant_to(holder))
        assert sum(granted.values()) <= 100
        assert window.contended == bool(asked)
        assert not asked or granted  # nobody waits while nobody has any
    while granted:
        holder = next(iter(granted))
        del granted[holder]
        window.give_back(holder)
    assert not asked


@given(st.integers(1, 200), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120)), max_size=40))
def test_the_connection_that_holds_most_sheds_and_the_bound_holds(
    max_bytes: int, steps: list[tuple[int, int]]
) -> None:
    buffer = ReceiveBuffer(max_bytes)

    class Connection:
        def __init__(self) -> None:
            self.held_bytes = 0
            self.parts: list[int] = []

        def shed(self) -> None:
            assert self.held_bytes == max(each.held_bytes for each in connections)
            part = max(self.parts)
            self.parts.remove(part)
            buffer.add(self, -part)

    connections = [Connection() for _ in range(4)]
    for index, byte_count in steps:
        connections[index].parts.append(byte_count)
        buffer.add(connections[index], byte_count)
        assert buffer.held_bytes <= max_bytes
        assert buffer.held_bytes == sum(sum(each.parts) for each in connections)


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
    block = status_trailers(
        code, message, [("grpc-status-details-bin", details), ("grpc-retry-pushback-ms", "12")]
    )
    found = {name.decode(): value.decode() for name, value in block}
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
        # Pings and window updates overtake answers that come in the same portion.
        found.append(
            (calls, sorted(set(kinds(bench.frames)) - {Kind.WINDOW_UPDATE, Kind.PING}), bench.connection.over)
        )
    assert found[0] == found[1]
