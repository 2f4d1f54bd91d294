"""Turns signals into requests to stop, so that everything is closed in order.

A KeyboardInterrupt can strike anywhere, also where gRPC holds a lock, which then nobody releases. Here
a signal sets an event or closes the client instead, and the command unwinds as usual.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

from ferserve_client.client import EmotionClient

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a stop by a supervisor, and a terminal that closes. Windows lacks the last one."""


class StopRequest:
    """Tells whether, and by which signal, the command was asked to stop."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @property
    def exit_code(self) -> int | None:
        """Return 128 and the number of the signal, as shells do; None: no signal came."""
        return None if self.signal_number is None else 128 + self.signal_number


@contextmanager
def stop_signals(on_stop: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Take the first stop signal of the block as a request; a second one ends the process as ever.

    To be used on the main thread.

    Args:
        on_stop: Called on another thread at the first signal.
    """
    request = StopRequest()
    # Handlers run between any two steps of the main thread; this queue is made for such callers.
    signals: SimpleQueue[bool] = SimpleQueue()
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def ask(number: int, _frame: FrameType | None) -> None:
        _restore(previous)
        request.signal_number = number
        signals.put(True)

    def call_when_asked() -> None:
        if signals.get() and on_stop is not None:
            on_stop()

    watcher = threading.Thread(target=call_when_asked, name="ferserve-signals", daemon=True)
    watcher.start()
    for number in STOP_SIGNALS:
        # SIGHUP that nohup ignores stays ignored.
        if previous[number] is not signal.SIG_IGN:
            signal.signal(number, ask)
    try:
        yield request
    finally:
        _restore(previous)
        signals.put(False)
        watcher.join()


@contextmanager
def stopped_by_signals(client: EmotionClient) -> Iterator[None]:
    """Close the client at the first stop signal while the block runs; a second one ends the process as ever.

    To be used on the main thread.

    Raises:
        SystemExit: There was a signal, with its exit code; in the place of whatever error it brought about.
    """
    with stop_signals(client.close) as request:
        try:
            yield
        except Exception as error:
            if request.exit_code is not None:
                raise SystemExit(request.exit_code) from error
            raise
    if request.exit_code is not None:
        raise SystemExit(request.exit_code)


def _restore(handlers: dict[Any, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)
