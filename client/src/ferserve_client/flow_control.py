"""Limits the messages of a stream that may be unanswered at once."""

from __future__ import annotations

import threading


class FlowControlWindow:
    """Counts the messages that may still be sent before an answer is due.

    Thread-safe: one thread sends and acquires, another receives and releases, any thread closes.

    Args:
        limit: Messages that may be unanswered at once, 1 or more.

    Raises:
        ValueError: `limit` is below 1; nothing could ever be sent.
    """

    def __init__(self, limit: int) -> None:
        self._free = checked_limit(limit)
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self) -> bool:
        """Wait until one more message may be sent; return False once the window is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            if self._closed:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        """Count one message as answered."""
        with self._changed:
            self._free += 1
            self._changed.notify()

    def close(self) -> None:
        """End the stream for the sender: every `acquire`, waiting or later, returns False."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def checked_limit(limit: int) -> int:
    """Return the limit.

    Raises:
        ValueError: It is below 1.
    """
    if limit < 1:
        raise ValueError(f"at least 1 message must be allowed unanswered, not {limit}")
    return limit
