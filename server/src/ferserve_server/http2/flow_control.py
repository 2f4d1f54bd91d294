"""Bounds the receive memory of a process, shared by all its connections. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Holder(Protocol):
    """Represents a connection that holds received bytes."""

    held_bytes: int

    def shed(self) -> None:
        """Fails the stream that holds most; its bytes are released before this returns."""


class ReceiveBuffer:
    """Accounts for the bytes of incomplete messages. Event loop only.

    Args of the constructor:
        max_bytes: Bound on them. Beyond, the connection that holds most has to shed.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._holders: set[Holder] = set()
        self.held_bytes = 0

    def add(self, holder: Holder, byte_count: int) -> None:
        """Adds received bytes, or subtracts released ones if the number is negative."""
        self.held_bytes += byte_count
        holder.held_bytes += byte_count
        if holder.held_bytes:
            self._holders.add(holder)
        else:
            self._holders.discard(holder)
        while self.held_bytes > self._max_bytes:
            before = self.held_bytes
            max(self._holders, key=lambda each: each.held_bytes).shed()
            if self.held_bytes >= before:
                return


class OversizeWindow:
    """Grants windows for messages that exceed a stream's window, in order. Event loop only.

    Without it either every stream could fill the memory of the longest message, or streams that each have received
    a part of theirs would wait for each other indefinitely.

    Args of the constructor:
        max_bytes: Bound on what is granted at once; at least the longest message.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._left = max_bytes
        self._granted: dict[object, int] = {}
        self._waiting: deque[tuple[object, int, Callable[[int], None]]] = deque()

    @property
    def contended(self) -> bool:
        """Returns whether messages wait."""
        return bool(self._waiting)

    def granted(self, holder: object) -> int:
        """Returns the bytes granted to a holder."""
        return self._granted.get(holder, 0)

    def ask(self, holder: object, byte_count: int, grant: Callable[[int], None]) -> None:
        """Calls `grant` with the number of bytes, at most all, when they are free.

        A holder requests once until it returns them.
        """
        self._waiting.append((holder, min(byte_count, self._max_bytes), grant))
        self._grant()

    def give_back(self, holder: object) -> int:
        """Takes back a grant, or its request; returns the number of bytes."""
        byte_count = self._granted.pop(holder, 0)
        if byte_count:
            self._left += byte_count
        elif self._waiting:
            self._waiting = deque(each for each in self._waiting if each[0] is not holder)
        if self._waiting:
            self._grant()
        return byte_count

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][1] <= self._left:
            holder, byte_count, grant = self._waiting.popleft()
            self._left -= byte_count
            self._granted[holder] = byte_count
            grant(byte_count)


class ReceiveMemory:
    """Bounds the received bytes that all connections of a process hold. Event loop only.

    Args of the constructor:
        buffer_bytes: Bound on incomplete messages within their windows.
        oversize_bytes: Bound on windows beyond those.
    """

    def __init__(self, buffer_bytes: int, oversize_bytes: int) -> None:
        self.buffer = ReceiveBuffer(buffer_bytes)
        self.oversize = OversizeWindow(oversize_bytes)
