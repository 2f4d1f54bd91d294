"""Selects the frames of a stream to analyse, and those that newer ones replace. Pure."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import NamedTuple


class OverloadPolicy(Enum):
    """Defines the treatment of frames that arrive faster than they can be answered.

    LATEST keeps at most one frame waiting, the newest. EVERY_FRAME keeps all and holds the sender back. MAX_AGE is
    LATEST, and gives up a waiting frame that became too old as well.
    """

    LATEST = "latest"
    EVERY_FRAME = "block"
    MAX_AGE = "max_age"


class Waiting(NamedTuple):
    """Holds a waiting frame: its sequence number and arrival time, in seconds."""

    sequence_id: int
    received_at: float


class StreamWindow:
    """Holds the received and unfinished frames of one stream.

    A frame that waits is chosen only when a thread is free for it. Until then the stream has asked for a
    thread, once for each frame that it may start.

    Args of the constructor:
        policy: Treatment of frames that arrive too fast.
        max_running: Largest number of frames that are analysed at once, 1 or more.
        max_age_s: Oldest frame that is started under MAX_AGE, in seconds since its arrival.
        in_order: Search frames one after the other, in their order, as tracking needs it; faces of one frame
            are still classified while the next is searched.
    """

    def __init__(
        self, policy: OverloadPolicy, max_running: int, *, max_age_s: float = math.inf, in_order: bool = False
    ) -> None:
        self._keeps_all = policy is OverloadPolicy.EVERY_FRAME
        self._max_age_s = max_age_s if policy is OverloadPolicy.MAX_AGE else math.inf
        self._max_running = max_running
        self._max_searching = 1 if in_order else max_running
        self._waiting: deque[Waiting] = deque()
        self._asked = 0
        self._searching = 0
        self._running = 0

    def arrived(self, sequence_id: int, now: float) -> int | None:
        """Adds a frame; returns the number of the waiting one that it replaces, if any."""
        dropped = None if self._keeps_all or not self._waiting else self._waiting.popleft().sequence_id
        self._waiting.append(Waiting(sequence_id, now))
        return dropped

    def ask(self) -> bool:
        """Returns whether to request a thread now, and counts the request."""
        if (
            len(self._waiting) <= self._asked
            or self._running + self._asked >= self._max_running
            or self._searching + self._asked >= self._max_searching
        ):
            return False
        self._asked += 1
        return True

    def pick(self, now: float) -> tuple[list[int], int | None]:
        """Chooses the frame for a requested thread.

        Returns:
            Numbers of the frames that became too old meanwhile, and of the frame to search, or None if none is
            left.
        """
        self._asked -= 1
        expired: list[int] = []
        while self._waiting:
            frame = self._waiting.popleft()
            if now - frame.received_at <= self._max_age_s:
                self._running += 1
                self._searching += 1
                return expired, frame.sequence_id
            expired.append(frame.sequence_id)
        return expired, None

    def searched(self) -> None:
        """Records that a frame was searched; its faces may still be classified."""
        self._searching -= 1

    def finished(self) -> None:
        """Records that a searched frame is finished."""
        self._running -= 1
