"""Flow control (RFC 9113, 5.2): how many bytes may be sent, and how many may come. Pure."""

from __future__ import annotations

from typing import Final

from ferserve_server.transport.express.frames import MAX_WINDOW, ConnectionFault, ErrorCode

INITIAL_SEND_WINDOW: Final = 65_535
"""Bytes that may be sent until the peer says otherwise, on the connection and on each stream (6.9.2)."""


def grown(left: int, increment: int) -> int:
    """What the peer takes after it changed a window; it may be below 0 after the peer made its windows smaller.

    Raises:
        ConnectionFault: It is more than a window can be.
    """
    left += increment
    if left > MAX_WINDOW:
        raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is above 2**31 - 1")
    return left


class ReceiveWindow:
    """Bytes that the peer may send: `size` beyond those that are held here.

    Bytes count as held from their arrival until they are `released`. What the peer may send grows again when half
    of the window is to be had, so that a window costs two frames of the peer's data one frame.

    Args of the constructor:
        size: Bytes that may be held.
    """

    __slots__ = ("_held", "_left", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._held = 0

    @property
    def left(self) -> int:
        """Bytes that the peer may send now."""
        return self._left

    def received(self, byte_count: int) -> bool:
        """Takes bytes in; False if the peer was not to send them."""
        self._left -= byte_count
        self._held += byte_count
        return self._left >= 0

    def released(self, byte_count: int) -> int:
        """Lets go of bytes, and returns by how much the peer's window grows, 0 for not yet."""
        self._held -= byte_count
        owed = self._size - self._left - self._held
        if owed * 2 < self._size:
            return 0
        self._left += owed
        return owed

    def returned(self, byte_count: int) -> None:
        """Lets go of bytes that are of no use, which the peer may send again at once; it is told."""
        self._held -= byte_count
        self._left += byte_count

    def widen(self, byte_count: int) -> None:
        """Lets the peer send so many bytes more, which it is told; `narrow` takes that back."""
        self._size += byte_count
        self._left += byte_count

    def narrow(self, byte_count: int) -> None:
        """Makes the window smaller again, by what the peer gets no more in place of."""
        self._size -= byte_count
