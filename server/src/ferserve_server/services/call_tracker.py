"""Counts the calls in progress on any transport, and rejects new ones while the server shuts down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc
import structlog

from ferserve_server.domain import metrics
from ferserve_server.domain.errors import DrainingError, FerserveError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import Clock
    from ferserve_server.services.limits import RequestLimits

log = structlog.get_logger(__name__)

OK: Final = grpc.StatusCode.OK.name
CANCELLED: Final = grpc.StatusCode.CANCELLED.name
DEADLINE_EXCEEDED: Final = grpc.StatusCode.DEADLINE_EXCEEDED.name
"""Name of the status, cached because enumerations build their names at every access."""

EXPIRED: Final = "deadline expired"
"""Argument of the CancelledError in a call whose deadline passed."""


def cancelled_code(error: BaseException) -> str:
    """Returns the status of a call that was cancelled: by its caller, or by its deadline."""
    return DEADLINE_EXCEEDED if error.args == (EXPIRED,) else CANCELLED


def known(method: str, error: Exception) -> FerserveError:
    """Returns the error that a caller gets; an unexpected one is logged, and reported as the server's failure."""
    if isinstance(error, FerserveError):
        # Kept in a frame of its own traceback it would keep the call's messages until garbage is collected.
        return error.with_traceback(None)
    log.error("call failed", method=method, exc_info=error)
    return FerserveError("The server failed on this call. Its log tells more.")


class Intake:
    """Tracks the calls of a process. Event loop only.

    Args of the constructor:
        limits: Bounds of a request.
        recorder: Counts calls.

    Attributes:
        draining: Set when streams end, and no further stream is accepted.
        closing: Set when no further call is accepted either.
    """

    def __init__(self, limits: RequestLimits, recorder: MetricsRecorder) -> None:
        self._limits = limits
        self._recorder = recorder
        self.draining = asyncio.Event()
        self.closing = False
        self._open_count = 0
        self._idle = asyncio.Event()

    def opened(self, method: str) -> None:
        """Counts a call that starts."""
        self._recorder.add(metrics.REQUESTS_IN_PROGRESS, 1, method)
        self._open_count += 1

    @property
    def open_count(self) -> int:
        """Returns the number of calls whose callers have not been notified of the end."""
        return self._open_count

    def check_in(self, metadata: Iterable[tuple[str, str | bytes]], *, is_stream: bool = False) -> None:
        """Admits a call that has started.

        Args:
            metadata: Names and values of its headers.
            is_stream: Whether it is a stream, which would have to end at once while the server drains.

        Raises:
            DrainingError: It may not be accepted any more.
            LimitExceededError: There is too much of the metadata.
        """
        if self.closing or (is_stream and self.draining.is_set()):
            raise DrainingError
        # 32 bytes an entry on top of name and value is HTTP/2's own way to count (RFC 9113, 6.5.2).
        byte_count = 0
        for name, value in metadata:
            byte_count += len(name) + len(value) + 32
        self._limits.check_metadata(byte_count)

    def ended(self, method: str, code: str, seconds: float | None) -> None:
        """Counts a call's end, before the caller is notified, so that a caller sees its own calls counted.

        Args:
            method: Its name in the metrics.
            code: Name of its status.
            seconds: How long it took; None for a stream, which takes as long as its caller likes.
        """
        self._recorder.add(metrics.REQUESTS_IN_PROGRESS, -1, method)
        self._recorder.count(metrics.REQUESTS, method, code)
        if seconds is not None:
            self._recorder.observe(metrics.REQUEST_SECONDS, seconds, method)

    def closed(self) -> None:
        """Releases a call when its caller has been notified of its end."""
        self._open_count -= 1
        if self._open_count == 0:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Waits until no call is open."""
        if self._open_count:
            self._idle.clear()
            await self._idle.wait()


class Arrivals:
    """Records the time at which the current event-loop iteration began to read. Event loop only.

    What an iteration reads from its sockets was in them when it began, as reported by the selector. asyncio does
    not report that time, so the time of the first query in the iteration is used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_at: float | None = None

    def latest_at(self) -> float:
        """Returns the latest time at which a request can have arrived that is read now, in seconds."""
        if self._began_at is None:
            self._began_at = self._clock.now()
            # Runs in the next iteration, before what that reads from its sockets.
            asyncio.get_running_loop().call_soon(self._end)
        return self._began_at

    def _end(self) -> None:
        self._began_at = None
