"""Tests the bounds on one peer's cost to the others: time, memory, waiting."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from load.frames import ACK, PREFACE, ErrorCode, FrameReader, Kind, Setting, write_frame, write_settings

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.grpc.stream import GrpcStream
from ferserve_server.grpc.trailers import status_trailers
from ferserve_server.http2 import limits
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.protocol import ServerProtocol
from ferserve_server.http2.registry import ConnectionLimits, ConnectionRegistry
from ferserve_server.services.calls import Calls
from ferserve_server.telemetry.recorder import PrometheusRecorder
from support.fake_clock import FakeClock
from support.fake_models import publish_fake
from support.http2 import LIMITS, FakeCall, FakeRouter, H2Bench, h2_peer, message_bytes
from support.local_server import local_server, packed
from support.worker_server import metric

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Transport:
    """Records what a transport is reported, and is one of TCP."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.eof = self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None


class ProtocolBench:
    """A connection's shell on a clock that every look moves on by `tick_s`."""

    def __init__(self, begin: Callable[..., Any] | None = None, tick_s: float = 0.0) -> None:
        self.time = 100.0
        self.tick_s = tick_s
        self.calls: list[FakeCall] = []
        self.peer = H2Bench()
        self.transport: Any = Transport()
        router: Any = FakeRouter(LIMITS, begin or self._begin)
        memory = ReceiveMemory(limits.RECEIVE_BUFFER_BYTES, LIMITS.max_message_bytes + 16)
        self.protocol = ServerProtocol(partial(GrpcStream, router), memory, 8192, set(), self._now, 0.0)
        self.protocol.connection_made(self.transport)
        self.protocol.data_received(PREFACE + write_settings({}))

    def _now(self) -> float:
        self.time += self.tick_s
        return self.time

    def _begin(self, stream: GrpcStream, head: Any) -> FakeCall:
        self.calls.append(FakeCall(stream, head))
        return self.calls[-1]


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


# Patience


def test_an_answer_that_its_peer_has_no_window_for_is_dropped_in_time() -> None:
    bench = H2Bench()
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 0}), bench.call(1), bench.call(3, grpc_timeout="1S"))
    for call in bench.calls:
        call.stream.answer(b"classes")
    bench.read()
    bench.now += 2
    bench.connection.check_times(bench.now)
    resets = {f.stream_id: int.from_bytes(f.payload) for f in bench.read() if f.kind == Kind.RST_STREAM}
    assert resets == {3: ErrorCode.CANCEL}
    bench.now += limits.UNSENT_S
    # A byte a second buys no more time.
    bench.send(write_frame(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))
    bench.connection.check_times(bench.now)
    resets = {f.stream_id: int.from_bytes(f.payload) for f in bench.read() if f.kind == Kind.RST_STREAM}
    assert resets == {1: ErrorCode.CANCEL}
    assert len(bench.connection._streams) == 0


async def test_half_a_frame_is_timed_out_though_its_bytes_trickle() -> None:
    bench = ProtocolBench()
    bench.protocol.data_received(write_frame(Kind.SETTINGS, ACK, 0) + bench.peer.headers(1, x_more="y" * 100)[:12])
    for _ in range(int(limits.HANDSHAKE_S + limits.PING_S) + 5):
        bench.time += 1
        bench.protocol.data_received(b"\0")
        bench.protocol.check_times()
        if bench.transport.closed:
            break
    assert bench.transport.closed


async def test_a_large_message_is_not_waited_for_while_others_wait() -> None:
    memory = ReceiveMemory(limits.RECEIVE_BUFFER_BYTES, 1_000_000)
    slow, other = H2Bench(memory=memory), H2Bench(memory=memory)
    for bench in (slow, other):
        bench.open(1)
        bench.send(bench.data(1, message_bytes(bytes(990_000))[:10_000]))
    assert slow.calls[0].stream.window_granted_at is not None
    assert other.calls[0].stream.window_granted_at is None
    slow.now += limits.OVERSIZE_S + 1
    slow.connection.check_times(slow.now)
    assert "did not come within 20 s" in str(slow.calls[0].errors[0])
    slow.calls[0].stream.finish(status_trailers(4))
    slow.read()
    assert other.calls[0].stream.window_granted_at is not None


def test_settings_of_many_entries_end_the_connection() -> None:
    bench = H2Bench()
    bench.send(write_frame(Kind.SETTINGS, 0, 0, (b"\0\4\0\0\xff\xff") * 2700))
    assert bench.error_code() == ErrorCode.ENHANCE_YOUR_CALM


async def test_a_connection_is_closed_so_that_its_goaway_arrives() -> None:
    bench = ProtocolBench()
    bench.protocol.data_received(write_frame(Kind.PING, 0, 0, bytes(8)) * 1500)
    assert bench.transport.eof
    assert not bench.transport.closed
    bench.protocol.data_received(bytes(1000))  # discarded: unread it would become a reset
    assert not bench.transport.closed
    bench.protocol.data_received(bytes(limits.LINGER_BYTES))
    assert bench.transport.closed


def _registry() -> ConnectionRegistry:
    make: Any = None
    return ConnectionRegistry(make, ConnectionLimits(3, 2, 0.0, 1000, 1000), None, lambda: 0.0)


class _Connected:
    """An accepted socket of an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def getpeername(self) -> tuple[str, int]:
        return self.address, 1234

    def close(self) -> None:
        self.closed = True


async def test_connections_have_a_bound_in_all_and_per_address() -> None:
    registry = ConnectionRegistry(
        lambda *_, **__: None, ConnectionLimits(3, 2, 0.0, 1000, 1000), None, lambda: 0.0
    )
    sockets: list[Any] = [_Connected(address) for address in ("a", "a", "a", "b", "c")]
    with structlog.testing.capture_logs() as logs:
        for each in sockets:
            registry.accept(each)
    assert [each.closed for each in sockets] == [False, False, True, False, True]
    assert len(logs) <= 2
    assert logs[0]["event"] == "connection refused: too many are open"
    for task in list(registry._tasks):
        task.cancel()
    await asyncio.gather(*registry._tasks, return_exceptions=True)


async def test_a_failure_in_one_check_of_time_limits_ends_no_other() -> None:
    registry = ConnectionRegistry(
        lambda *_, **__: None, ConnectionLimits(3, 2, 0.0, 1000, 1000), None, lambda: 0.0
    )
    checked: list[str] = []

    class Broken:
        def check_times(self) -> None:
            raise ZeroDivisionError

        def abort(self) -> None:
            checked.append("aborted")

    class Sound:
        def check_times(self) -> None:
            checked.append("checked")

    connections: list[Any] = [Broken(), Sound()]
    for each in connections:
        registry.add(each)
    with structlog.testing.capture_logs() as logs:
        registry.check_times()
    assert sorted(checked) == ["aborted", "checked"]
    assert [entry["log_level"] for entry in logs] == ["error"]


# Validity


@pytest.mark.parametrize(
    "more",
    [
        {"te": "gzip"},
        {"content_length": "3"},
        {"X": "y"},
        {"a b": "y"},
        {"a:b": "y"},
        {"x": "a\0b"},
        {"x": "a\rb"},
        {"x": "a\nb"},
        {"connection": "close"},
    ],
    ids=str,
)
def test_a_malformed_request_is_reset_and_the_connection_lives(more: dict[str, str]) -> None:
    bench = H2Bench()
    frames = bench.send(bench.headers(1, **more), bench.data(1, message_bytes(b"faces"), end=True))
    assert [frame.stream_id for frame in frames if frame.kind == Kind.RST_STREAM] == [1]
    assert all(call.cancelled and not call.ended for call in bench.calls)
    bench.send(bench.call(3))
    assert bench.calls[-1].ended


@pytest.mark.parametrize("count", [0, 2])
async def test_a_health_check_has_one_message(tmp_path: Path, count: int) -> None:
    publish_fake(tmp_path)
    async with (
        local_server(tmp_path) as server,
        h2_peer(server.running.port or 0) as peer,
    ):
        stream_id = peer.call(None, "/grpc.health.v1.Health/Check", end=False)
        peer.connection.send_data(stream_id, message_bytes(b"") * count, end_stream=True)
        answer = await peer.answer(stream_id)
        assert answer.status == "12"


async def test_a_deadline_that_passes_is_counted_as_such_and_where_it_was(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    settings = {"hold_until_queued": 4, "max_queue_faces": 4, "max_faces_per_request": 4}
    async with local_server(tmp_path, metrics_listen="127.0.0.1:0", **settings) as server:
        request = emotion_pb2.ClassifyFacesRequest(packed=packed(1)).SerializeToString()
        async with h2_peer(server.running.port or 0) as peer:
            assert (await peer.answer(peer.call(request, grpc_timeout="50m"))).status == "4"
        codes = {
            code: await metric(server, "requests_total", method="ClassifyFaces", code=code)
            for code in ("DEADLINE_EXCEEDED", "CANCELLED")
        }
        assert codes == {"DEADLINE_EXCEEDED": 1, "CANCELLED": 0}
        stages = {
            stage: await metric(server, "cancellations_total", stage=stage) for stage in ("queued", "running")
        }
        assert stages == {"queued": 1, "running": 0}
