"""Which frames of a stream are analysed, and which give way to newer ones. Pure."""

from __future__ import annotations

from collections import deque
from enum import Enum


class OverloadPolicy(Enum):
    """What happens to frames that arrive faster than they can be answered."""

    LATEST = "latest"
    EVERY_FRAME = "block"


class StreamWindow:
    """The frames of one stream that were taken and are not finished, by their sequence numbers.

    Args of the constructor:
        policy: LATEST keeps at most one frame waiting, the newest; EVERY_FRAME keeps all.
        max_running: Frames that may be analysed at once, 1 or more.
    """

    def __init__(self, policy: OverloadPolicy, max_running: int) -> None:
        self._policy = policy
        self._max_running = max_running
        self._waiting: deque[int] = deque()
        self._running = 0

    def arrived(self, sequence_id: int) -> int | None:
        """Takes a frame in; returns the waiting one that gives way to it, if any."""
        dropped = None
        if self._policy is OverloadPolicy.LATEST and self._waiting:
            dropped = self._waiting.popleft()
        self._waiting.append(sequence_id)
        return dropped

    def start_next(self) -> int | None:
        """Says which frame to start now, or None if all hands are full or nothing waits."""
        if self._running >= self._max_running or not self._waiting:
            return None
        self._running += 1
        return self._waiting.popleft()

    def finished(self) -> None:
        """One of the frames that were started is answered."""
        self._running -= 1
