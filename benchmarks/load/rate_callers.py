"""Calls of gRPC at a fixed rate over bare connections: as little work for each as can be.

Beyond the peak most calls are refused, and what a client library takes for each is missing from what server and
load share: grpc.aio needed 0.28 of a core for 800 calls of 32 faces a second, a third of what the server lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from load.call_frames import CallFrames, header_block
from load.lane import Lane, OpenCall

if TYPE_CHECKING:
    from load.plan import Part
    from load.seen import Seen

MAX_OPEN_CALLS: Final = 20_000
"""Calls beyond this many unanswered ones are not sent: a server that answers nothing is known by then."""

_MOST_PIECES: Final = 512
"""What one write takes; Linux takes 1,024 (IOV_MAX)."""

_READ_BYTES: Final = 256 * 1024


class _Wire:
    """The socket of a lane. Written to at once, in place, so that no call is copied on this side."""

    def __init__(self, peer: socket.socket, lane: Lane) -> None:
        self.lane = lane
        self._socket = peer
        self._loop = asyncio.get_running_loop()
        self._waits = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(peer, self._read)
        self.write()

    def write(self) -> None:
        """Writes what is unsent, as much as the socket takes; the rest when it takes more."""
        unsent = self.lane.unsent
        try:
            while unsent:
                self._drop(self._socket.sendmsg(list(itertools.islice(unsent, _MOST_PIECES))))
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)
            return
        if bool(unsent) != self._waits:
            self._waits = bool(unsent)
            if unsent:
                self._loop.add_writer(self._socket, self.write)
            else:
                self._loop.remove_writer(self._socket)

    def close(self) -> None:
        """Closes it."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self.lost.cancel()

    def _drop(self, byte_count: int) -> None:
        unsent = self.lane.unsent
        while byte_count and byte_count >= len(unsent[0]):
            byte_count -= len(unsent.popleft())
        if byte_count:
            unsent[0] = memoryview(unsent[0])[byte_count:]

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
            self.lane.receive(data)
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the load is over, and says why
            self._lose(error)
            return
        if not data:
            self._lose(ConnectionError("the server closed the connection"))
        elif self.lane.unsent:
            self.write()

    def _lose(self, error: Exception) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if not self.lost.done():
            self.lost.set_exception(error)


async def call_at_rate(address: str, part: Part, seen: Seen) -> None:
    """Sends `rate` calls a second, each when it is due, whatever is unanswered; until cancelled.

    Raises:
        OSError: There is no connection, or no more.
    """
    frames = CallFrames(header_block(address, part.path, part.timeout_s), part.message)
    open_count = 0

    def ended(call: OpenCall, code: str) -> None:
        nonlocal open_count
        open_count -= 1
        seen.note(call.due_s, call.sent_s, time.perf_counter(), code)

    host, _, port = address.rpartition(":")
    wires: list[_Wire] = []
    unexpired: deque[tuple[OpenCall, _Wire]] = deque()
    with contextlib.ExitStack() as stack:
        for _ in range(part.lanes):
            peer = socket.create_connection((host, int(port)), timeout=10)
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wires.append(_Wire(peer, Lane(frames, ended)))
            stack.callback(wires[-1].close)
        due_s = time.perf_counter()
        for wire in itertools.cycle(wires):
            # Also without a wait the loop must get its turn, for the answers.
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            if wire.lost.done():
                wire.lost.result()
            sent_s = time.perf_counter()
            while unexpired and (unexpired[0][0].ended or sent_s - unexpired[0][0].sent_s >= part.timeout_s):
                late, its_wire = unexpired.popleft()
                if not late.ended:
                    its_wire.lane.give_up(late)
                    its_wire.write()
                    ended(late, "EXPIRED")
            if open_count < MAX_OPEN_CALLS:
                open_count += 1
                call = OpenCall(due_s, sent_s)
                unexpired.append((call, wire))
                wire.lane.begin(call)
                wire.write()
            else:
                seen.note(due_s, sent_s, sent_s, "NOT_SENT")
            due_s += 1 / part.rate
