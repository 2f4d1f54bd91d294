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


class Route:
    """Both sides; what the worker process says takes a turn of the event loop."""

    def __init__(self) -> None:
        ours, self.far_end = Channel.pair(MESSAGE_BYTES)
        self.returned: list[socket.socket] = []
        self.owner = ConnectionSender(ours, self.returned.append)
        self.served = Served()
        self.front: ConnectionReceiver | None = None
        self.told: list[tuple[int, int]] = []

    def open(self) -> None:
        """The worker process begins to take connections."""
        loop = asyncio.get_running_loop()

        def tell(taken: int, held: int) -> None:
            self.told.append((taken, held))
            loop.call_soon(self.owner.told, taken, held)

        self.front = ConnectionReceiver(self.far_end, self.served, tell)

    def die(self) -> None:
        if self.front is not None:
            self.front.close()
        self.far_end.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event here
                await asyncio.sleep(0)


@pytest.fixture
async def way() -> AsyncIterator[Route]:
    made = Route()
    yield made
    made.die()
    made.owner.close()
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


async def test_a_connection_arrives_and_the_owner_lets_go_of_its_copy(
    way: Route, pair: tuple[socket.socket, socket.socket]
) -> None:
    caller, accepted = pair
    assert way.owner.hand_over(accepted)
    assert way.owner.count == 1
    way.open()
    await way.until(lambda: accepted.fileno() == -1)
    assert (way.owner.count, way.told) == (1, [(1, 1)])
    (there,) = way.served.sockets
    assert not os.get_inheritable(there.fileno())
    assert not there.getblocking()
    with caller:
        caller.sendall(b"bytes")
        assert there.recv(10) == b"bytes"
    way.served.end_one()
    await way.until(lambda: way.owner.count == 0)


async def test_what_ends_in_one_turn_is_told_at_once(way: Route) -> None:
    way.open()
    pairs = [_pair() for _ in range(5)]
    for _, accepted in pairs:
        assert way.owner.hand_over(accepted)
    await way.until(lambda: way.told == [(5, 5)])
    for _ in range(3):
        way.served.end_one()
    await way.until(lambda: way.owner.count == 2)
    assert way.told == [(5, 5), (5, 2)]
    for caller, _ in pairs:
        caller.close()


async def test_what_was_not_taken_is_returned_open_when_the_front_process_is_gone(way: Route) -> None:
    way.open()
    (first, taken), (second, waiting) = _pair(), _pair()
    assert way.owner.hand_over(taken)
    await way.until(lambda: taken.fileno() == -1)
    assert way.front is not None
    way.front.close()  # it hangs
    assert way.owner.hand_over(waiting)
    assert way.owner.count == 2
    way.owner.close()
    assert (way.owner.count, way.returned) == (0, [waiting])
    with first, second:
        second.sendall(b"bytes")
        assert waiting.recv(10) == b"bytes"
    assert not way.owner.hand_over(waiting)
    way.owner.told(2, 2)  # what it said before it went
    assert way.owner.count == 0


async def test_a_front_process_that_takes_none_gets_no_more_than_128(way: Route) -> None:
    pairs = [_pair() for _ in range(129)]
    assert [way.owner.hand_over(accepted) for _, accepted in pairs] == [True] * 128 + [False]
    assert pairs[-1][1].fileno() != -1  # still the caller's
    way.open()
    await way.until(lambda: way.served.count == 128)
    await way.until(lambda: way.owner.hand_over(pairs[-1][1]))
    await way.until(lambda: way.served.count == 129)
    for caller, _ in pairs:
        caller.close()


async def test_a_channel_that_is_closed_or_full_leaves_the_socket_to_who_asked(
    way: Route, pair: tuple[socket.socket, socket.socket]
) -> None:
    caller, accepted = pair
    with caller, accepted:
        way.die()
        assert not way.owner.hand_over(accepted)
        ours, theirs = Channel.pair(MESSAGE_BYTES)
        before = _fd_count()
        for _ in range(129):
            ours.send_now(b"c", [0])
        with pytest.raises(ChannelFullError):  # does not wait, with file descriptors either
            _fill(ours)
        full = ConnectionSender(ours, way.returned.append)
        assert not full.hand_over(accepted)
        assert (full.count, way.returned) == (0, [])
        assert accepted.fileno() != -1
        assert _fd_count() == before
        full.close()
        theirs.close()


def _fill(channel: Channel) -> None:
    for _ in range(10_000):
        channel.send_now(b"c", [0])


async def test_no_file_descriptor_stays_behind(way: Route) -> None:
    way.open()
    before = _fd_count()
    for _ in range(200):
        caller, accepted = _pair()
        assert way.owner.hand_over(accepted)
        await way.until(lambda: way.served.count == 1)
        way.served.end_one()
        caller.close()
    await way.until(lambda: way.owner.count == 0)
    assert _fd_count() == before
