"""Sends gRPC calls at a fixed rate over HTTP/2 connections, with little work per call.

Beyond the peak most calls are rejected, and the load shares the processor with the server: grpc.aio takes 0.3 ms
of it for a call of 32 faces. So libnghttp2 is used without an event loop: one thread waits for sockets and for the
time of the next call.
"""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from load.client_connection import ClientConnection, OpenCall, request_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load.client_connection import Headers
    from load.measurements import Measurements
    from load.plan import Part

MAX_OPEN_CALLS: Final = 20_000
"""Calls beyond this many unanswered ones are not sent: a server that answers nothing is known by then."""

_WRITE_BYTES: Final = 256 * 1024
"""Maximum bytes that are taken from a connection for one write."""

_READ_BYTES: Final = 256 * 1024

_PATIENCE_S: Final = 10.0
"""For a connection."""


async def call_at_rate(address: str, part: Part, measurements: Measurements) -> None:
    """Sends `rate` calls a second, each when it is due, whatever is unanswered; until cancelled.

    Raises:
        OSError: There is no connection, or no more.
    """
    stopped = threading.Event()
    sending = asyncio.ensure_future(asyncio.to_thread(_send, address, part, measurements, stopped))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        stopped.set()
        await sending
        raise


def _send(address: str, part: Part, measurements: Measurements, stopped: threading.Event) -> None:
    """Sends until `stopped` is set; on a thread of its own, which alone writes to `measurements`."""
    callers = _RateCallers(part, measurements, request_headers(address, part.path, part.timeout_s))
    with select.epoll() as poll:
        wires = [_Wire(address, poll, callers.connection()) for _ in range(part.connections)]
        try:
            callers.run(wires, poll, stopped)
        finally:
            for wire in wires:
                wire.close()


class _RateCallers:
    """Schedules calls that are due, in progress, and overdue."""

    def __init__(self, part: Part, measurements: Measurements, headers: Headers) -> None:
        self._part = part
        self._measurements = measurements
        self._headers = headers
        self._open_count = 0
        self._unexpired: deque[tuple[OpenCall, _Wire]] = deque()
        self._impatient: deque[tuple[OpenCall, _Wire]] = deque()
        self._is_impatient = False

    def connection(self) -> ClientConnection:
        """Makes one of its connections."""
        return ClientConnection(self._headers, self._part.message, self._ended)

    def run(self, wires: Sequence[_Wire], poll: select.epoll, stopped: threading.Event) -> None:
        """Sends and receives."""
        by_number = {wire.fileno(): wire for wire in wires}
        round_robin = itertools.cycle(wires)
        due_s = time.perf_counter()
        while not stopped.is_set():
            for number, events in poll.poll(max(0.0, due_s - time.perf_counter())):
                by_number[number].ready(events)
            now = time.perf_counter()
            self._expire(now)
            while due_s <= now:
                self._begin(next(round_robin), due_s)
                due_s += 1 / self._part.rate

    def _begin(self, wire: _Wire, due_s: float) -> None:
        sent_s = time.perf_counter()
        if self._open_count >= MAX_OPEN_CALLS:
            self._measurements.record(due_s, sent_s, sent_s, "NOT_SENT")
            return
        self._open_count += 1
        call = OpenCall(due_s, sent_s)
        self._is_impatient = not self._is_impatient and self._part.cancel_s > 0
        (self._impatient if self._is_impatient else self._unexpired).append((call, wire))
        wire.connection.begin(call)
        wire.write()

    def _expire(self, now: float) -> None:
        self._give_up(self._unexpired, now - self._part.timeout_s, "EXPIRED")
        self._give_up(self._impatient, now - self._part.cancel_s, "CANCELLED")

    def _give_up(self, calls: deque[tuple[OpenCall, _Wire]], sent_before_s: float, code: str) -> None:
        while calls and (calls[0][0].ended or calls[0][0].sent_s <= sent_before_s):
            call, wire = calls.popleft()
            if not call.ended:
                wire.connection.give_up(call)
                wire.write()
                self._ended(call, code)

    def _ended(self, call: OpenCall, code: str) -> None:
        self._open_count -= 1
        self._measurements.record(call.due_s, call.sent_s, time.perf_counter(), code)


class _Wire:
    """Wraps the socket of a connection.

    Raises:
        OSError: Any method: there is no connection, or no more.
    """

    def __init__(self, address: str, poll: select.epoll, connection: ClientConnection) -> None:
        host, _, port = address.rpartition(":")
        self.connection = connection
        self._unsent: bytes | memoryview = b""
        self._poll = poll
        self._waits = False
        self._socket = socket.create_connection((host, int(port)), timeout=_PATIENCE_S)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(self._socket, select.EPOLLIN)
        self.write()

    def fileno(self) -> int:
        """Returns the socket's number."""
        return self._socket.fileno()

    def ready(self, events: int) -> None:
        """Reads, and writes, as the socket allows."""
        if events & ~select.EPOLLOUT:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.connection.receive(data)
        self.write()

    def write(self) -> None:
        """Writes as much as the socket takes; the rest when it takes more."""
        try:
            while self._unsent or (output := self.connection.output(_WRITE_BYTES)):
                unsent = memoryview(self._unsent or output)
                self._unsent = unsent
                self._unsent = unsent[self._socket.send(unsent) :]
        except BlockingIOError:
            pass
        if bool(self._unsent) != self._waits:
            self._waits = bool(self._unsent)
            self._poll.modify(self._socket, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
