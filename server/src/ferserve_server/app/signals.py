"""Handles the signals of the primary process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.runtime.process_output import flush_output

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

_LAST_RECORDS_S: Final = 0.2
"""Maximum wait for a slow reader of the log when a stop is cut short."""

_STOP_SLACK_S: Final = 1.7
"""Maximum time of a stop beyond lame duck and drain, in seconds, because with the end of the process it stays
below 2 s."""

_STDIN: Final = 0


def _has_terminal() -> bool:
    try:
        return os.isatty(_STDIN)
    except OSError:
        return False


class StopSignals:
    """Turns SIGTERM and SIGINT into a stop that ends in time, and takes others. Event loop of the main thread.

    SIGHUP has files read again, as in other servers; on a terminal it says that the terminal is gone, and is a
    stop. SIGUSR1 and SIGUSR2 have no meaning and are logged.

    The first signal requests a stop, and starts a thread that ends the process when the stop takes too long: a
    picture being decoded, a version being loaded and a hung library cannot be interrupted. A second signal ends
    the process at once. Child processes end with it.

    Attributes:
        requested: Set by the first signal.
        on_reload: Called by SIGHUP; does not block long.
        exit_code: Exit code of a process that is ended by the thread: 0 once all accepted calls are answered.
    """

    def __init__(self, max_stop_s: float, on_stop: Callable[[], None]) -> None:
        """Prepares the handlers; see `install`.

        Args:
            max_stop_s: Time that a drain may take, in seconds, without `_STOP_SLACK_S`.
            on_stop: Called at the first signal; does not block.
        """
        self.requested = asyncio.Event()
        self.on_reload: Callable[[], None] = lambda: None
        self.exit_code = 1
        self._max_stop_s = max_stop_s + _STOP_SLACK_S
        self._on_stop = on_stop

    def install(self) -> None:
        """Installs the handlers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)
        loop.add_signal_handler(signal.SIGHUP, self._received if _has_terminal() else self._reload)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, partial(self._ignore, number))

    def _reload(self) -> None:
        log.info("SIGHUP: files are read again")
        self.on_reload()

    @staticmethod
    def _ignore(number: signal.Signals) -> None:
        log.warning("signal ignored: it has no meaning", signal=number.name)

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
