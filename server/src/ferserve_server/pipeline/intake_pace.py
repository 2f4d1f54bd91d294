"""Bounds the number of frames that are read only to be dropped. Pure."""

from __future__ import annotations

from typing import Final

DROPS_PER_S: Final = 150.0
"""Maximum frames per second, over all streams, that are read in place of a waiting one, because reading
a frame of 60 KiB takes about 0.7 ms of the event loop: dropping takes at most a tenth of it and other callers do
not notice.
"""

BURST_COUNT: Final = 60.0
"""Maximum number of frames that may be dropped at once after a while without drops."""


class IntakePace:
    """Limits dropped frames by a token bucket that all streams of a process share.

    Below the rate a stream always reads its newest frame. Above it, streams leave their frames with the transport,
    whose flow control holds the senders back, until the frame that waits was chosen.
    """

    def __init__(self) -> None:
        self._tokens = BURST_COUNT
        self._filled_at: float | None = None

    def wait_s(self, now: float) -> float:
        """Takes a token; returns 0.0, or without one how long to wait for it, in seconds.

        Args:
            now: Seconds from any start, never falling.
        """
        if self._filled_at is not None:
            self._tokens = min(BURST_COUNT, self._tokens + (now - self._filled_at) * DROPS_PER_S)
        self._filled_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / DROPS_PER_S
