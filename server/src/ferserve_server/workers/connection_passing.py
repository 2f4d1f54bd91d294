"""Passes accepted connections to worker processes.

A pure function decides which process gets the next connection: the primary process or a worker process. The
connected socket is passed with a message of a channel of its own (SCM_RIGHTS, unix(7)). The primary process keeps
its copy until the worker process acknowledges the connection, which it does before it reads the first byte. If the
worker dies before that, or hangs and is killed, the client is given to another process and never notices.
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
"""Processor time of a call that arrives at the primary process, in microseconds."""

_FRONT_CALL_US: Final = 68.0
"""Processor time that a call costs the worker process at which it arrives, in microseconds."""

_FORWARDED_CALL_US: Final = 27.0
"""Processor time that such a call costs the primary process, which scores it, in microseconds."""

_FEW_CORES: Final = 4
"""Maximum number of cores that the model alone keeps busy, because most of a call's 200 us and more are the
model's."""

_SHARE_ON_FEW_CORES: Final = 7 / 8
"""Primary process's share of connections where worker processes do not help, because a call through a worker costs
twice as much and gains nothing, and faces that arrive in two places form smaller batches. Of up to 7
connections none goes to a worker."""


def share_of_owner(process_count: int, core_count: int) -> float:
    """Computes the primary process's share of the connections, 0 to 1, that maximises throughput.

    Where there are cores to spare, that is the share x with which the primary process is as busy as each of the
    others is: `x * own + (1 - x) * forwarded = (1 - x) * front / fronts`. From 4 processes on the primary process
    has enough to do with what the others send.

    Args:
        process_count: The primary process and the worker processes, 2 or more.
        core_count: Cores that they may use.
    """
    if core_count <= min(process_count, _FEW_CORES):
        return _SHARE_ON_FEW_CORES
    front_us = _FRONT_CALL_US / (process_count - 1)
    return max(0.0, (front_us - _FORWARDED_CALL_US) / (front_us - _FORWARDED_CALL_US + _OWN_CALL_US))


def worker_for_next(own_count: int, front_counts: Sequence[int], owner_share: float) -> int | None:
    """Selects the worker process for the next connection by fewest connections; None: the primary.

    Args:
        own_count: Connections of the primary process.
        front_counts: Those of each worker process that takes any.
        owner_share: The primary process's share of all, 0 to 1.
    """
    if not front_counts or own_count < owner_share * (own_count + sum(front_counts) + 1):
        return None
    return front_counts.index(min(front_counts))


log = structlog.get_logger(__name__)

MESSAGE_BYTES: Final = 8
"""Maximum message length of the channel, in bytes, because an empty message cannot be sent."""

_CONNECTION: Final = b"c"

_MOST_ON_THE_WAY: Final = 128
"""Maximum number of unacknowledged connections of a worker process; the system's buffer holds some 250."""

_PER_TURN: Final = 32
"""Maximum number of connections per event-loop iteration, because other work must get its share."""


class Intake(Protocol):
    """Serves accepted connections. Event loop only."""

    on_end: Callable[[], None]
    """Called when a connection has ended."""

    @property
    def count(self) -> int:
        """Returns the number of open connections."""

    def accept(self, accepted: socket.socket) -> None:
        """Accepts a connected non-blocking socket; never raises."""


class ConnectionSender:
    """Sends connections to one worker process, from the primary process. Event loop only.

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
        """Returns the number of connections that the worker process has or is about to get."""
        return len(self._on_the_way) + self._held

    def hand_over(self, accepted: socket.socket) -> bool:
        """Sends a connection and takes ownership of the socket; returns False, without ownership, if it cannot."""
        if self._closed or len(self._on_the_way) >= _MOST_ON_THE_WAY:
            return False
        try:
            self._channel.send_now(_CONNECTION, [accepted.fileno()])
        except (ChannelClosedError, ChannelFullError):
            return False
        except OSError as error:  # such as ETOOMANYREFS: more are in flight than a process may have open
            log.warning("connection cannot be handed over", error=str(error))
            return False
        self._on_the_way.append(accepted)
        return True

    def told(self, taken: int, held: int) -> None:
        """Updates the acknowledged and the open connection counts of the worker process."""
        if self._closed:
            return
        for _ in range(taken - self._taken):
            self._on_the_way.popleft().close()
        self._taken, self._held = taken, held

    def close(self) -> None:
        """Closes the sender and returns the connections that the worker process did not accept."""
        self._closed = True
        self._channel.close()
        self._held = 0
        while self._on_the_way:
            self._returned(self._on_the_way.popleft())


class ConnectionReceiver:
    """Receives connections in a worker process. Event loop only.

    Args of the constructor:
        channel: The other end; left open.
        intake: Serves the connections.
        tell: Sends the primary process the numbers of accepted and of open connections, in that order.
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
        """Stops receiving connections."""
        self._loop.remove_reader(self._channel.fileno())

    def _read(self) -> None:
        try:
            for _ in range(_PER_TURN):
                if (fds := self._channel.receive_fds_now()) is None:
                    break
                self._take(fds)
        except ChannelClosedError:
            self.close()
        # Acknowledge before any of them is read: reading begins in a later event-loop iteration.
        self._tell()

    def _take(self, fds: list[int]) -> None:
        self._taken += 1
        if not fds:
            log.error("a connection was lost: no room for another file descriptor")
        for fd in fds:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            self._intake.accept(connection)

    def _ended(self) -> None:
        if not self._telling:  # once for all that end in one event-loop iteration
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._tell_owner(self._taken, self._intake.count)
