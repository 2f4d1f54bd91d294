"""Ctrl-C as a request to stop.

A KeyboardInterrupt can strike anywhere, also where gRPC holds a lock, which then nobody releases. Here
Ctrl-C closes the client instead: running calls end with an error, and the command unwinds as usual.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from ferserve_client.client import EmotionClient


@contextmanager
def stopped_by_ctrl_c(client: EmotionClient) -> Iterator[None]:
    """Close the client at the first Ctrl-C while the block runs; a second one interrupts as ever.

    To be used on the main thread.

    Raises:
        KeyboardInterrupt: There was a Ctrl-C; in the place of whatever error it brought about.
    """
    # Handlers run between any two steps of the main thread; this queue is made for such callers.
    signals: SimpleQueue[bool] = SimpleQueue()
    asked_to_stop = threading.Event()
    previous = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        signals.put(True)

    def close_when_asked() -> None:
        if signals.get():
            asked_to_stop.set()
            client.close()

    watcher = threading.Thread(target=close_when_asked, name="ferserve-ctrl-c", daemon=True)
    watcher.start()
    signal.signal(signal.SIGINT, ask)
    try:
        yield
    except Exception as error:
        if asked_to_stop.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
        signals.put(False)
        watcher.join()
    if asked_to_stop.is_set():
        raise KeyboardInterrupt
