"""Tests connections on their way between two processes, here between two ends in one."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ferserve_server.ipc.channel import Channel, ChannelFullError
from ferserve_server.workers.connection_passing import MESSAGE_BYTES, ConnectionReceiver, ConnectionSender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Served:
    """Keeps the connections that it is given."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.on_end: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        return len(self.sockets)

    def accept(self, accepted: socket.socket) -> None:
        self.sockets.append(accepted)

    def end_one(self) -> None:
        self.sockets.pop().close()
        self.on_end()


class ConnectionPair:
    """Both sides; what the worker process says takes one event-loop iteration."""

    def __init__(self) -> None:
        ours, self.far_end = Channel.pair(MESSAGE_BYTES)
        self.returned: list[socket.socket] = []
        self.sender = ConnectionSender(ours, self.returned.append)
        self.served = Served()
        self.receiver: ConnectionReceiver | None = None
        self.reported: list[tuple[int, int]] = []

    def open(self) -> None:
        """The worker process begins to take connections."""
        loop = asyncio.get_running_loop()

        def report(accepted_count: int, open_count: int) -> None:
            self.reported.append((accepted_count, open_count))
            loop.call_soon(self.sender.update_counts, accepted_count, open_count)

        self.receiver = ConnectionReceiver(self.far_end, self.served, report)

    def die(self) -> None:
        if self.receiver is not None:
            self.receiver.close()
        self.far_end.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event here
                await asyncio.sleep(0)


@pytest.fixture
async def ends() -> AsyncIterator[ConnectionPair]:
    made = ConnectionPair()
    yield made
    made.die()
    made.sender.close()
    for each in (*made.served.sockets, *made.returned):
        each.close()


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return _pair()


def _pair() -> tuple[socket.socket, socket.socket]:
    caller, accepted = socket.socketpair()
    accepted.setblocking(False)
    return caller, accepted


def _fd_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_connection_arrives_and_the_primary_lets_go_of_its_copy(
    ends: ConnectionPair, pair: tuple[socket.socket, socket.socket]
) -> None:
    caller, accepted = pair
    assert ends.sender.pass_connection(accepted)
    assert ends.sender.count == 1
    ends.open()
    await ends.until(lambda: accepted.fileno() == -1)
    assert (ends.sender.count, ends.reported) == (1, [(1, 1)])
    (there,) = ends.served.sockets
    assert not os.get_inheritable(there.fileno())
    assert not there.getblocking()
    with caller:
        caller.sendall(b"bytes")
        assert there.recv(10) == b"bytes"
    ends.served.end_one()
    await ends.until(lambda: ends.sender.count == 0)


async def test_what_ends_in_one_iteration_is_reported_at_once(ends: ConnectionPair) -> None:
    ends.open()
    pairs = [_pair() for _ in range(5)]
    for _, accepted in pairs:
        assert ends.sender.pass_connection(accepted)
    await ends.until(lambda: ends.reported == [(5, 5)])
    for _ in range(3):
        ends.served.end_one()
    await ends.until(lambda: ends.sender.count == 2)
    assert ends.reported == [(5, 5), (5, 2)]
    for caller, _ in pairs:
        caller.close()


async def test_what_was_not_taken_is_returned_open_when_the_worker_process_is_gone(ends: ConnectionPair) -> None:
    ends.open()
    (first, accepted_count), (second, waiting) = _pair(), _pair()
    assert ends.sender.pass_connection(accepted_count)
    await ends.until(lambda: accepted_count.fileno() == -1)
    assert ends.receiver is not None
    ends.receiver.close()  # it hangs
    assert ends.sender.pass_connection(waiting)
    assert ends.sender.count == 2
    ends.sender.close()
    assert (ends.sender.count, ends.returned) == (0, [waiting])
    with first, second:
        second.sendall(b"bytes")
        assert waiting.recv(10) == b"bytes"
    assert not ends.sender.pass_connection(waiting)
    ends.sender.update_counts(2, 2)  # what it said before it went
    assert ends.sender.count == 0


async def test_a_worker_process_that_takes_none_gets_no_more_than_128(ends: ConnectionPair) -> None:
    pairs = [_pair() for _ in range(129)]
    assert [ends.sender.pass_connection(accepted) for _, accepted in pairs] == [True] * 128 + [False]
    assert pairs[-1][1].fileno() != -1  # still the caller's
    ends.open()
    await ends.until(lambda: ends.served.count == 128)
    await ends.until(lambda: ends.sender.pass_connection(pairs[-1][1]))
    await ends.until(lambda: ends.served.count == 129)
    for caller, _ in pairs:
        caller.close()


async def test_a_channel_that_is_closed_or_full_leaves_the_socket_to_who_asked(
    ends: ConnectionPair, pair: tuple[socket.socket, socket.socket]
) -> None:
    caller, accepted = pair
    with caller, accepted:
        ends.die()
        assert not ends.sender.pass_connection(accepted)
        ours, theirs = Channel.pair(MESSAGE_BYTES)
        before = _fd_count()
        for _ in range(129):
            ours.send_now(b"c", [0])
        with pytest.raises(ChannelFullError):  # does not wait, with file descriptors either
            _fill(ours)
        full = ConnectionSender(ours, ends.returned.append)
        assert not full.pass_connection(accepted)
        assert (full.count, ends.returned) == (0, [])
        assert accepted.fileno() != -1
        assert _fd_count() == before
        full.close()
        theirs.close()


def _fill(channel: Channel) -> None:
    for _ in range(10_000):
        channel.send_now(b"c", [0])


async def test_no_file_descriptor_stays_behind(ends: ConnectionPair) -> None:
    ends.open()
    before = _fd_count()
    for _ in range(200):
        caller, accepted = _pair()
        assert ends.sender.pass_connection(accepted)
        await ends.until(lambda: ends.served.count == 1)
        ends.served.end_one()
        caller.close()
    await ends.until(lambda: ends.sender.count == 0)
    assert _fd_count() == before
