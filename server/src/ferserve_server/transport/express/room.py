"""Room for messages that are longer than a stream's window: as much as the longest one takes, in turn. Pure.

Without it either every stream could fill the memory of the longest message, or streams that each have a part of
theirs would wait for each other for ever.
"""

from __future__ import annotations

from collections import deque


class Room:
    """What all streams of a connection share beyond their windows.

    Args of the constructor:
        size: Bytes; at least what one stream may ask for.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._given: dict[int, int] = {}
        self._waiting: deque[tuple[int, int]] = deque()

    def ask(self, stream_id: int, byte_count: int) -> list[tuple[int, int]]:
        """Asks for room for a stream that has none and waits for none; returns who gets how much now."""
        self._waiting.append((stream_id, byte_count))
        return self._give()

    def has(self, stream_id: int) -> bool:
        """Whether a stream has room, or waits for it."""
        return stream_id in self._given or any(waiting == stream_id for waiting, _ in self._waiting)

    def leave(self, stream_id: int) -> tuple[int, list[tuple[int, int]]]:
        """Takes back what a stream has; returns how much that was, and who gets how much in its place."""
        back = self._given.pop(stream_id, 0)
        if back:
            self._left += back
        elif self._waiting:
            self._waiting = deque(each for each in self._waiting if each[0] != stream_id)
        return back, self._give() if self._waiting else []

    def _give(self) -> list[tuple[int, int]]:
        given: list[tuple[int, int]] = []
        while self._waiting and self._waiting[0][1] <= self._left:
            stream_id, byte_count = self._waiting.popleft()
            self._left -= byte_count
            self._given[stream_id] = byte_count
            given.append((stream_id, byte_count))
        return given
