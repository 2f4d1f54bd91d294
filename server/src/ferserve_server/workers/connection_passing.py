"""Passes accepted connections to worker processes.

Which process gets the next connection: the owner of the models, or a worker process. Pure.

Connections on their way from the owner, which accepts them, to a worker process, which serves them.

The connected socket goes with a message of a channel of its own (SCM_RIGHTS, unix(7)). The owner keeps its copy
until the worker process says that it has the connection, which it does before it reads one byte of it: if it dies
before, or hangs and is killed, the caller is given to another process, and never knows.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ferserve_server.ipc.channel import ChannelClosedError, ChannelFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.ipc.channel import Channel


# Processor time of a call, by benchmarks/scaling.py, whose runs give 43 to 48, 55 to 75 and 22 to 32.
_OWN_CALL_US: Final = 45.0
"""What a call costs the owner that comes in at the owner."""

_FRONT_CALL_US: Final = 68.0
"""What a call costs the worker process that it comes in at."""

_FORWARDED_CALL_US: Final = 27.0
"""What such a call costs the owner, which scores it."""

_FEW_CORES: Final = 4
"""So many the model keeps busy before calls keep one busy: most of a call's 200 us and more are the model's."""

_SHARE_ON_FEW_CORES: Final = 7 / 8
"""The owner's share where it has no need of others: a call through a worker process costs twice as much and gains
nothing, and faces that come in two places go in smaller batches. Of up to 7 connections none goes there."""


def share_of_owner(process_count: int, core_count: int) -> float:
    """The owner's share of the connections, 0 to 1, with which most calls can be carried.

    Where there are cores to spare, that is the share x with which the owner is as busy as each of the others is:
    `x * own + (1 - x) * forwarded = (1 - x) * front / fronts`. From 4 processes on the owner has enough to do with
    what the others send.

    Args:
        process_count: The owner and the worker processes, 2 or more.
        core_count: Cores that they may use.
    """
    if core_count <= min(process_count, _FEW_CORES):
        return _SHARE_ON_FEW_CORES
    front_us = _FRONT_CALL_US / (process_count - 1)
    return max(0.0, (front_us - _FORWARDED_CALL_US) / (front_us - _FORWARDED_CALL_US + _OWN_CALL_US))


def worker_for_next(own_count: int, front_counts: Sequence[int], owner_share: float) -> int | None:
    """The worker process that gets the next connection, as an index, the one with the fewest; None: the owner.

    Args:
        own_count: Connections of the owner.
        front_counts: Those of each worker process that takes any.
        owner_share: The owner's share of all, 0 to 1.
    """
    if not front_counts or own_count < owner_share * (own_count + sum(front_counts) + 1):
        return None
    return front_counts.index(min(front_counts))


log = structlog.get_logger(__name__)

MESSAGE_BYTES: Final = 8
"""Longest message of the channel: there is nothing to say, but an empty one cannot be sent."""

_CONNECTION: Final = b"c"

_MOST_ON_THE_WAY: Final = 128
"""So many that a worker process has not taken, and it gets no more. The system's buffer has room for some 250."""

_PER_TURN: Final = 32
"""Then other work of the event loop gets its turn."""


class Intake(Protocol):
    """Serves connections. Event loop only."""

    on_end: Callable[[], None]
    """Called when a connection has ended."""

    @property
    def count(self) -> int:
        """Connections that it has."""

    def adopt(self, accepted: socket.socket) -> None:
        """Takes over a connected socket that does not block; never raises."""


class ConnectionSender:
    """The owner's side of one worker process. Event loop only.

    Args of the constructor:
        channel: Closed with this.
        returned: Gets back what the worker process did not take.
    """

    def __init__(self, channel: Channel, returned: Callable[[socket.socket], None]) -> None:
        self._channel = channel
        self._returned = returned
        self._on_the_way: deque[socket.socket] = deque()
        self._taken = 0
        self._held = 0
        self._closed = False

    @property
    def count(self) -> int:
        """Connections that the worker process has, or is about to get."""
        return len(self._on_the_way) + self._held

    def hand_over(self, accepted: socket.socket) -> bool:
        """Sends a connection, and owns the socket from then on; False: it cannot, and does not."""
        if self._closed or len(self._on_the_way) >= _MOST_ON_THE_WAY:
            return False
        try:
            self._channel.send_now(_CONNECTION, [accepted.fileno()])
        except (ChannelClosedError, ChannelFullError):
            return False
        except OSError as error:  # such as ETOOMANYREFS: more are on their way than a process may have open
            log.warning("connection cannot be handed over", error=str(error))
            return False
        self._on_the_way.append(accepted)
        return True

    def told(self, taken: int, held: int) -> None:
        """The worker process has taken so many so far, and has so many of them now."""
        if self._closed:
            return
        for _ in range(taken - self._taken):
            self._on_the_way.popleft().close()
        self._taken, self._held = taken, held

    def close(self) -> None:
        """The worker process takes no more: what it did not take is returned."""
        self._closed = True
        self._channel.close()
        self._held = 0
        while self._on_the_way:
            self._returned(self._on_the_way.popleft())


class ConnectionReceiver:
    """The worker process's side. Event loop only.

    Args of the constructor:
        channel: The other end; left open.
        intake: Serves the connections.
        tell: Tells the owner how many were taken so far, and how many of them there are, in that order.
    """

    def __init__(self, channel: Channel, intake: Intake, tell: Callable[[int, int], None]) -> None:
        self._channel = channel
        self._intake = intake
        self._tell_owner = tell
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._telling = False
        intake.on_end = self._ended
        self._loop.add_reader(channel.fileno(), self._read)

    def close(self) -> None:
        """Takes no more."""
        self._loop.remove_reader(self._channel.fileno())

    def _read(self) -> None:
        try:
            for _ in range(_PER_TURN):
                if (fds := self._channel.receive_fds_now()) is None:
                    break
                self._take(fds)
        except ChannelClosedError:
            self.close()
        # Before any of them is read: that begins in a later turn of the event loop.
        self._tell()

    def _take(self, fds: list[int]) -> None:
        self._taken += 1
        if not fds:
            log.error("a connection was lost: no room for another file descriptor")
        for fd in fds:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            self._intake.adopt(connection)

    def _ended(self) -> None:
        if not self._telling:  # once for all that end in a turn
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._tell_owner(self._taken, self._intake.count)
