"""Tests time limits of connections, and their number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.grpc.trailers import status_trailers
from ferserve_server.http2 import limits
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.registry import ConnectionLimits, ConnectionRegistry
from support.connection_bench import ProtocolBench
from support.fake_models import publish_fake
from support.http2 import H2Bench, h2_peer, message_bytes
from support.http2_frames import ACK, ErrorCode, Kind, Setting, write_frame, write_settings
from support.local_server import local_server, packed
from support.worker_server import metric

if TYPE_CHECKING:
    from pathlib import Path


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
