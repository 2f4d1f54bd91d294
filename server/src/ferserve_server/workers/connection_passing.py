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
_PRIMARY_CALL_US: Final = 45.0
"""Processor time of a call that arrives at the primary process, in microseconds."""

_WORKER_CALL_US: Final = 68.0
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


def balanced_primary_share(process_count: int, core_count: int) -> float:
    """Computes the primary process's share of the connections, 0 to 1, that maximises throughput.

    With idle cores that is the share x with which the primary process is as busy as each worker:
    `x * own + (1 - x) * forwarded = (1 - x) * worker / workers`. From 4 processes on, forwarded calls alone keep
    the primary process busy.

    Args:
        process_count: The primary process and the worker processes, 2 or more.
        core_count: Cores that they may use.
    """
    if core_count <= min(process_count, _FEW_CORES):
        return _SHARE_ON_FEW_CORES
    worker_us = _WORKER_CALL_US / (process_count - 1)
    return max(0.0, (worker_us - _FORWARDED_CALL_US) / (worker_us - _FORWARDED_CALL_US + _PRIMARY_CALL_US))


def worker_for_next(primary_count: int, worker_counts: Sequence[int], primary_share: float) -> int | None:
    """Selects the worker process for the next connection by fewest connections; None: the primary.

    Args:
        primary_count: Connections of the primary process.
        worker_counts: Those of each worker process that takes any.
        primary_share: The primary process's share of all, 0 to 1.
    """
    if not worker_counts or primary_count < primary_share * (primary_count + sum(worker_counts) + 1):
        return None
    return worker_counts.index(min(worker_counts))


log = structlog.get_logger(__name__)

MESSAGE_BYTES: Final = 8
"""Maximum message length of the channel, in bytes, because an empty message cannot be sent."""

_CONNECTION: Final = b"c"

_MAX_UNACKNOWLEDGED: Final = 128
"""Maximum number of unacknowledged connections of a worker process; the system's buffer holds some 250."""

_MAX_PER_ITERATION: Final = 32
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
        self._unacknowledged: deque[socket.socket] = deque()
        self._accepted_count = 0
        self._open_count = 0
        self._closed = False

    @property
    def count(self) -> int:
        """Returns the number of connections that the worker process has or is about to get."""
        return len(self._unacknowledged) + self._open_count

    def pass_connection(self, accepted: socket.socket) -> bool:
        """Sends a connection and takes ownership of the socket; returns False, without ownership, if it cannot."""
        if self._closed or len(self._unacknowledged) >= _MAX_UNACKNOWLEDGED:
            return False
        try:
            self._channel.send_now(_CONNECTION, [accepted.fileno()])
        except (ChannelClosedError, ChannelFullError):
            return False
        except OSError as error:  # such as ETOOMANYREFS: more are in flight than a process may have open
            log.warning("connection cannot be passed", error=str(error))
            return False
        self._unacknowledged.append(accepted)
        return True

    def update_counts(self, accepted_count: int, open_count: int) -> None:
        """Updates the acknowledged and the open connection counts of the worker process."""
        if self._closed:
            return
        for _ in range(accepted_count - self._accepted_count):
            self._unacknowledged.popleft().close()
        self._accepted_count, self._open_count = accepted_count, open_count

    def close(self) -> None:
        """Closes the sender and returns the connections that the worker process did not accept."""
        self._closed = True
        self._channel.close()
        self._open_count = 0
        while self._unacknowledged:
            self._returned(self._unacknowledged.popleft())


class ConnectionReceiver:
    """Receives connections in a worker process. Event loop only.

    Args of the constructor:
        channel: The other end; left open.
        acceptor: Serves the connections.
        report: Sends the primary process the numbers of accepted and of open connections, in that order.
    """

    def __init__(self, channel: Channel, acceptor: Intake, report: Callable[[int, int], None]) -> None:
        self._channel = channel
        self._acceptor = acceptor
        self._report_counts = report
        self._loop = asyncio.get_running_loop()
        self._accepted_count = 0
        self._report_scheduled = False
        acceptor.on_end = self._ended
        self._loop.add_reader(channel.fileno(), self._read)

    def close(self) -> None:
        """Stops receiving connections."""
        self._loop.remove_reader(self._channel.fileno())

    def _read(self) -> None:
        try:
            for _ in range(_MAX_PER_ITERATION):
                if (fds := self._channel.receive_fds_now()) is None:
                    break
                self._accept(fds)
        except ChannelClosedError:
            self.close()
        # Acknowledge before any of them is read: reading begins in a later event-loop iteration.
        self._report()

    def _accept(self, fds: list[int]) -> None:
        self._accepted_count += 1
        if not fds:
            log.error("a connection was lost: no room for another file descriptor")
        for fd in fds:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            self._acceptor.accept(connection)

    def _ended(self) -> None:
        if not self._report_scheduled:  # once for all that end in one event-loop iteration
            self._report_scheduled = True
            self._loop.call_soon(self._report)

    def _report(self) -> None:
        self._report_scheduled = False
        self._report_counts(self._accepted_count, self._acceptor.count)
