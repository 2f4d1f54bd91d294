"""Hands batches from the event loop to the threads that execute them."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Generic, TypeVar

Work = TypeVar("Work")


class LifoWorkQueue(Generic[Work]):
    """Hands work to the most recently used thread, whose core still has the model in its caches.

    An ordinary queue wakes its threads round robin, so that a lone caller would meet a cold core every time. Work
    that finds no idle thread waits, first come first served.

    Thread-safety: `put` from any thread, `get` from the threads that work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Work | None] = deque()
        self._idle: list[SimpleQueue[Work | None]] = []
        self._own = threading.local()

    def put(self, work: Work | None) -> None:
        """Queues work; None ends one thread."""
        with self._lock:
            if not self._idle:
                self._waiting.append(work)
                return
            inbox = self._idle.pop()
        inbox.put(work)

    def get(self) -> Work | None:
        """Waits for work; None means that this thread should end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            inbox = self._inbox()
            self._idle.append(inbox)
        return inbox.get()

    def _inbox(self) -> SimpleQueue[Work | None]:
        inbox: SimpleQueue[Work | None] | None = getattr(self._own, "inbox", None)
        if inbox is None:
            inbox = self._own.inbox = SimpleQueue()
        return inbox
