"""Tests the bounds on one peer's cost to the others: time, memory, waiting."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.grpc.trailers import status_trailers
from ferserve_server.http2 import limits
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.services.calls import Calls
from ferserve_server.telemetry.recorder import PrometheusRecorder
from support.connection_bench import ProtocolBench
from support.fake_clock import FakeClock
from support.http2 import LIMITS, H2Bench, message_bytes
from support.http2_frames import FrameReader, Kind, Setting, write_frame, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.grpc.stream import GrpcStream


# Time


async def test_a_flood_is_handled_in_portions_between_which_others_are_served() -> None:
    handled = 0

    def answer(stream: GrpcStream, head: Any) -> None:
        nonlocal handled
        handled += 1
        stream.finish(status_trailers(5))

    # Each look at the clock takes a millisecond, so three of them are the time of an iteration.
    bench = ProtocolBench(answer, tick_s=0.001)
    flood = b"".join(bench.peer.headers(number, end=True) for number in range(1, 400, 2))
    bench.protocol.data_received(flood)
    first = handled
    assert 0 < first <= 4 * limits.EVENTS_PER_CHECK
    assert not bench.transport.reading
    for _ in range(100):
        await asyncio.sleep(0)
    assert handled == 200
    assert bench.transport.reading


async def test_no_more_than_a_slice_is_parsed_before_the_clock_is_looked_at() -> None:
    bench = ProtocolBench(tick_s=limits.ITERATION_S)
    bench.protocol.data_received(write_frame(0xFA, 0, 0, bytes(1000)) * 200)
    assert not bench.transport.reading
    assert len(bench.protocol._input) >= 200_000 - limits.MAX_SLICE_BYTES
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.transport.reading


async def test_answers_that_cost_their_peer_nothing_slow_it_down() -> None:
    handled = 0

    def reject(stream: GrpcStream, head: Any) -> None:
        nonlocal handled
        handled += 1
        stream.finish(status_trailers(12, "no method"), free=True)

    bench = ProtocolBench(reject)
    for start in range(1, 4000, 100):
        bench.protocol.data_received(
            b"".join(bench.peer.headers(at, end=True) for at in range(start, start + 100, 2))
        )
        await asyncio.sleep(0)
    burst = int(limits.FREE_ANSWER_CAPACITY)
    assert burst <= handled <= burst + 60
    assert not bench.transport.reading
    kinds = [frame.kind for frame in FrameReader().feed(bench.transport.written)]
    assert Kind.GOAWAY not in kinds  # slowed down, not ended


# Memory


def test_a_stream_whose_peer_does_not_read_its_socket_is_blocked() -> None:
    bench = H2Bench()
    call = bench.open(1)
    bench.connection.paused = True
    call.stream.send(b"x" * 100)
    assert call.stream.blocked
    bench.connection.paused = False
    bench.read()
    assert (call.stream.blocked, call.writable_count) == (False, 1)


def test_all_streams_of_a_connection_are_blocked_together() -> None:
    bench = H2Bench()
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    calls = [bench.open(number) for number in range(1, 41, 2)]
    for call in calls:
        call.stream.send(bytes(15_000))
    blocked = [call.stream.blocked for call in calls]
    assert blocked == [at * 15_005 > limits.QUEUED_BYTES for at in range(1, 21)]


def test_incomplete_messages_of_all_connections_have_a_bound_and_the_greediest_loses() -> None:
    memory = ReceiveMemory(1_000_000, 2_000_000)
    modest, greedy = H2Bench(memory=memory), H2Bench(memory=memory)
    small = modest.open(1)
    modest.send(modest.data(1, message_bytes(bytes(900_000))[:50_000]))
    number = 1
    while not greedy.calls or not any(call.errors for call in greedy.calls):
        greedy.open(number)
        greedy.send(
            *(greedy.data(number, part) for part in [message_bytes(bytes(900_000))[:16_000], bytes(16_000)])
        )
        number += 2
    assert memory.buffer.held_bytes <= 1_000_000
    assert number < 100
    assert not small.errors
    (error,) = [error for call in greedy.calls for error in call.errors]
    assert "Too many bytes of incomplete messages" in str(error)
    greedy.connection.lost()
    modest.connection.lost()
    assert memory.buffer.held_bytes == 0


@pytest.mark.parametrize("make", [lambda: InvalidRequestError("A", "no", field="x"), ZeroDivisionError])
async def test_a_call_that_fails_keeps_nothing_of_its_message_alive(make: Callable[[], Exception]) -> None:
    """An exception that is kept in a frame of its own traceback lives until garbage is collected."""
    calls = Calls(LIMITS, PrometheusRecorder(), FakeClock())
    message = bytes(1000)

    async def run() -> None:
        held = message

        async def handle() -> bytes:
            assert held
            raise make()

        async def send(outcome: object) -> None:
            assert isinstance(outcome, Exception)

        await calls.carried("ClassifyFaces", (), handle, send)

    before = sys.getrefcount(message)
    gc.disable()
    try:
        with structlog.testing.capture_logs():
            for _ in range(10):
                await run()
        assert sys.getrefcount(message) <= before + 1
    finally:
        gc.enable()
