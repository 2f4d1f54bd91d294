"""Tests the socket shell of a connection: one write for all ready bytes, and unresponsive peers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from ferserve_server.grpc.stream import GrpcStream
from ferserve_server.http2 import limits
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.protocol import ServerProtocol
from support.http2 import LIMITS, FakeCall, FakeRouter, H2Bench
from support.http2_frames import ACK, PREFACE, FrameReader, Kind, write_frame, write_settings


class FakeTransport:
    """Notes what a transport is reported."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None


class ConnectionBench:
    """A connection on a clock of the test's."""

    def __init__(self, max_age_s: float = 0.0) -> None:
        self.now = 100.0
        self.calls: list[FakeCall] = []
        self.open: set[ServerProtocol] = set()
        self.peer = H2Bench()  # writes what a peer would
        self.transport: Any = FakeTransport()

        def begin(stream: Any, head: Any, *_: object) -> FakeCall:
            self.calls.append(FakeCall(stream, head))
            return self.calls[-1]

        router: Any = FakeRouter(LIMITS, begin)
        memory = ReceiveMemory(limits.RECEIVE_BUFFER_BYTES, LIMITS.max_message_bytes + 16)
        make = partial(GrpcStream, router)
        self.connection = ServerProtocol(make, memory, 8192, self.open, lambda: self.now, max_age_s)
        self.connection.connection_made(self.transport)
        self.connection.data_received(PREFACE + write_settings({}))
        self.transport.written.clear()

    def kinds(self) -> list[int]:
        return [frame.kind for frame in FrameReader().feed(b"".join(self.transport.written))]


@pytest.fixture
async def bench() -> ConnectionBench:
    return ConnectionBench()


async def test_answers_of_one_iteration_go_out_in_one_write(bench: ConnectionBench) -> None:
    bench.connection.data_received(b"".join(bench.peer.call(number) for number in (1, 3, 5)))
    for call in bench.calls:
        call.stream.answer(b"classes")
    assert bench.transport.written == []
    await asyncio.sleep(0)
    assert len(bench.transport.written) == 1
    assert bench.kinds().count(Kind.DATA) == 3


async def test_from_a_peer_that_does_not_read_nothing_more_is_taken(bench: ConnectionBench) -> None:
    bench.connection.pause_writing()
    assert not bench.transport.reading
    bench.now += limits.UNSENT_S - 1
    bench.connection.check_times()
    bench.connection.resume_writing()
    assert bench.transport.reading
    bench.connection.pause_writing()
    bench.now += limits.UNSENT_S + 1
    bench.connection.check_times()
    assert bench.transport.aborted


async def test_a_silent_peer_is_asked_once_and_then_cut(bench: ConnectionBench) -> None:
    bench.now += limits.IDLE_S + 1
    for _ in range(3):
        bench.connection.check_times()
    await asyncio.sleep(0)
    assert bench.kinds() == [Kind.PING]
    bench.now += limits.PING_S + 1
    bench.connection.check_times()
    assert bench.transport.aborted


async def test_a_silent_peer_that_answers_stays(bench: ConnectionBench) -> None:
    for _ in range(5):
        bench.now += limits.IDLE_S + 1
        bench.connection.check_times()
        bench.connection.data_received(write_frame(Kind.PING, ACK, 0, bytes(8)))
        bench.now += limits.PING_S + 1
        bench.connection.check_times()
    assert not bench.transport.closed


async def test_an_old_connection_is_asked_to_go_and_its_calls_are_answered() -> None:
    bench = ConnectionBench(max_age_s=30)
    bench.connection.data_received(bench.peer.call(1))
    bench.now += 31
    bench.connection.check_times()
    await asyncio.sleep(0)
    bench.connection.data_received(write_frame(Kind.PING, ACK, 0, b"shutdown"))
    assert not bench.transport.closed
    bench.calls[0].stream.answer(b"classes")
    await asyncio.sleep(0)
    assert bench.kinds() == [Kind.GOAWAY, Kind.PING, Kind.GOAWAY, Kind.HEADERS, Kind.DATA, Kind.HEADERS]
    assert bench.transport.closed


async def test_a_peer_that_answers_the_announcement_and_leaves_in_the_same_bytes_is_closed() -> None:
    bench = ConnectionBench(max_age_s=30)
    bench.now += 31
    bench.connection.check_times()
    await asyncio.sleep(0)
    acknowledgement = write_frame(Kind.PING, ACK, 0, b"shutdown")
    bench.connection.data_received(acknowledgement + write_frame(Kind.GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\1"))
    assert bench.transport.closed


async def test_a_peer_that_leaves_gets_its_answers(bench: ConnectionBench) -> None:
    bench.connection.data_received(bench.peer.call(1))
    bench.connection.data_received(write_frame(Kind.GOAWAY, 0, 0, bytes(8)))
    assert not bench.calls[0].cancelled
    assert not bench.transport.closed
    bench.calls[0].stream.answer(b"classes")
    await asyncio.sleep(0)
    assert bench.kinds()[-3:] == [Kind.HEADERS, Kind.DATA, Kind.HEADERS]
    assert bench.transport.closed


async def test_what_is_closed_at_once_waits_for_nothing_of_the_peer(bench: ConnectionBench) -> None:
    bench.connection.abort()
    assert bench.transport.aborted


async def test_a_connection_that_is_lost_cancels_its_calls(bench: ConnectionBench) -> None:
    bench.connection.data_received(bench.peer.call(1))
    bench.connection.connection_lost(None)
    assert bench.calls[0].cancelled
    assert bench.open == set()


async def test_who_speaks_no_http2_is_reported_and_cut(bench: ConnectionBench) -> None:
    bench.connection.data_received(write_frame(Kind.DATA, 0, 0, b"x"))
    assert bench.kinds() == [Kind.GOAWAY]
    assert bench.transport.closed
