"""Drives connections of the HTTP/2 server without a socket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ferserve_server.grpc.stream import GrpcStream
from ferserve_server.http2 import limits
from ferserve_server.http2.flow_control import ReceiveMemory
from ferserve_server.http2.protocol import ServerProtocol
from support.http2 import LIMITS, FakeCall, FakeRouter, H2Bench
from support.http2_frames import PREFACE, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable


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
