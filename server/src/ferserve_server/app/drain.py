"""Stops a process that serves calls, in an order that loses none of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.runtime.process_output import flush_output

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ferserve_server.config.settings import Settings
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.health import HealthReporter

log = structlog.get_logger(__name__)

_LAST_RECORDS_S: Final = 0.2
"""Maximum wait for a slow reader of the log when a stop is cut short."""

_QUIET_S: Final = 0.1
"""Minimum time without calls, in seconds, after which a drained server stops: a round trip within a continent."""

_MAX_DISCONNECT_WAIT_S: Final = 1.0
"""Maximum wait for `_QUIET_S`, in seconds, because clients may ignore the drain."""

DRAIN_SLACK_S: Final = _MAX_DISCONNECT_WAIT_S + 0.2
"""Maximum time of a drain beyond `lame_duck_s` and `drain_timeout_s`, in seconds: the wait for late calls."""

_STOP_SLACK_S: Final = 1.7
"""Maximum time of a stop beyond them, in seconds, because with the end of the process it stays below 2 s."""


class StopSignals:
    """Turns SIGTERM and SIGINT into a stop that ends in time. Event loop of the main thread.

    The first signal requests a stop, and starts a thread that ends the process when the stop takes too long: a
    picture being decoded, a version being loaded and a hung library cannot be interrupted. A second signal ends
    the process at once. Child processes end with it.

    Attributes:
        requested: Set by the first signal.
        exit_code: Exit code of a process that is ended by the thread: 0 once all accepted calls are answered.
    """

    def __init__(self, max_stop_s: float, on_stop: Callable[[], None]) -> None:
        """Prepares the handlers; see `install`.

        Args:
            max_stop_s: Time that a drain may take, in seconds, without `_STOP_SLACK_S`.
            on_stop: Called at the first signal; does not block.
        """
        self.requested = asyncio.Event()
        self.exit_code = 1
        self._max_stop_s = max_stop_s + _STOP_SLACK_S
        self._on_stop = on_stop

    def install(self) -> None:
        """Installs the handlers of both signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if self.requested.is_set():
            log.error("ended by a second signal; calls are cut")
            self._end()
        self.requested.set()
        threading.Thread(target=self._watch, name="stop-watch", daemon=True).start()
        self._on_stop()

    def _watch(self) -> None:
        time.sleep(self._max_stop_s)
        log.error("stop takes too long; what still runs is cut", max_stop_s=self._max_stop_s)
        self._end()

    def _end(self) -> None:
        flush_output(_LAST_RECORDS_S)
        os._exit(self.exit_code)


async def drain(
    settings: Settings, health: HealthReporter, calls: Calls, stop: Callable[[], Awaitable[None]]
) -> bool:
    """Drains the process: sets health to NOT_SERVING, stops intake, then completes accepted calls.

    Args:
        settings: Limits of its duration.
        health: Says NOT_SERVING from now on.
        calls: The calls.
        stop: Stops what listens.

    Returns:
        True if all accepted calls were answered in time. If not, nothing was stopped.
    """
    await health.drain()
    await asyncio.sleep(settings.server.lame_duck_s)
    calls.draining.set()
    try:
        async with asyncio.timeout(settings.server.drain_timeout_s):
            await calls.wait_idle()
    except TimeoutError:
        log.error("drain timed out; calls are cut")  # noqa: TRY400 - no trace: nothing is broken
        return False
    # Every accepted call is answered. Calls still arriving get DRAINING instead of being cut off.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MAX_DISCONNECT_WAIT_S):
            await calls.wait_quiet(_QUIET_S)
    # The answers are written; a moment for the transport to send them.
    await stop()
    return True
