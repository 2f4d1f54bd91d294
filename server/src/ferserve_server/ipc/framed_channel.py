"""Exchanges messages of any length over a channel, on an event loop; none is lost when the other side is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from ferserve_server.ipc.channel import ChannelClosedError, ChannelFullError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.ipc.channel import Channel

MESSAGE_BYTES: Final = 8 * 1024
"""Maximum length of a message sent in one piece, in bytes, because room for it is allocated at every receipt;
messages of a request have about 60 bytes."""

_PART: Final = b"\xfe"
_LAST_PART: Final = b"\xff"
_PART_BYTES: Final = MESSAGE_BYTES - 1

_MAX_MESSAGES_PER_ITERATION: Final = 64
"""Maximum number of messages per event-loop iteration, because other work must get its share."""


class FramedChannel:
    """Represents one end of a framed channel. Event loop only.

    Args of the constructor:
        channel: A channel for messages of `MESSAGE_BYTES`; closed with this object.
        received: Gets every message, in order; must not raise.
        closed: Called once, when the other side has closed.

    Attributes:
        received_count: Number of times that there was something to read.
    """

    def __init__(self, channel: Channel, received: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._channel = channel
        self._received = received
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._open = True
        self.received_count = 0
        self._loop.add_reader(channel.fileno(), self._read)

    def post(self, message: bytes) -> None:
        """Sends a message, of 1 byte or more that does not begin with 254 or 255, as soon as there is room.

        Nothing happens when the other side has closed.
        """
        if len(message) <= MESSAGE_BYTES:
            self._send(message)
            return
        pieces = [message[start : start + _PART_BYTES] for start in range(0, len(message), _PART_BYTES)]
        for piece in pieces[:-1]:
            self._send(_PART + piece)
        self._send(_LAST_PART + pieces[-1])

    async def flush(self) -> None:
        """Waits until everything posted is sent, or the other side has closed."""
        while self._open and self._waiting:  # noqa: ASYNC110 - only at the end of a process
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Closes the channel. `closed` is not called for it."""
        if self._open:
            self._open = False
            self._stop_watching()
            self._channel.close()

    def _send(self, piece: bytes) -> None:
        if not self._open:
            return
        if not self._waiting:
            try:
                self._channel.send_now(piece)
            except ChannelFullError:
                self._loop.add_writer(self._channel.fileno(), self._write)
            except ChannelClosedError:
                return  # reported when it is read, after the other side's last messages
            else:
                return
        self._waiting.append(piece)

    def _write(self) -> None:
        try:
            while self._waiting:
                self._channel.send_now(self._waiting[0])
                self._waiting.popleft()
        except ChannelFullError:
            return
        except ChannelClosedError:
            self._waiting.clear()
        self._loop.remove_writer(self._channel.fileno())

    def _read(self) -> None:
        self.received_count += 1
        try:
            for _ in range(_MAX_MESSAGES_PER_ITERATION):
                if not self._open or (piece := self._channel.receive_now()) is None:
                    return
                self._take(piece)
        except ChannelClosedError:
            self.close()
            self._closed()

    def _take(self, piece: bytes) -> None:
        mark = piece[:1]
        if mark == _PART:
            self._parts.append(piece[1:])
        elif mark == _LAST_PART:
            message = b"".join((*self._parts, piece[1:]))
            self._parts.clear()
            self._received(message)
        else:
            self._received(piece)

    def _stop_watching(self) -> None:
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
