"""Exchanges messages between two processes, each as a whole or not at all."""

from __future__ import annotations

import array
import errno
import select
import socket
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""Maximum message length in bytes unless a channel sets another, because Linux takes messages up to its send
buffer, 208 KiB by default."""

_FDS_PER_MESSAGE: Final = 4
_FDS_SPACE: Final = socket.CMSG_SPACE(_FDS_PER_MESSAGE * array.array("i").itemsize)


class ChannelClosedError(Exception):
    """Reports that the other side has closed the channel, or its process has ended."""


class ChannelFullError(Exception):
    """Reports that the other side does not read: some 250 short messages wait. The message was not sent."""


class MessageTooLongError(Exception):
    """Reports that the message is empty, or longer than the channel's maximum."""


class Channel:
    """Represents one end of a connection between two processes (AF_UNIX, SOCK_SEQPACKET).

    Messages keep their bounds and their order. When a process ends, however it does, the other side gets
    `ChannelClosedError` after the last message. Empty messages cannot be sent.

    Thread-safety: any number of threads may send and receive at once; a message goes to one of them. `close` only
    when none of them is at it: `shut_down` wakes them up before.
    """

    def __init__(self, connected: socket.socket, longest_message: int = MAX_MESSAGE_BYTES) -> None:
        """Wraps a blocking socket, which it closes; see `pair` and `from_fd`.

        Args:
            connected: The socket.
            longest_message: Bytes of the longest message, the same on both sides. A small one makes receiving
                cheaper, since room for it is set aside each time.
        """
        self._socket = connected
        self._longest = longest_message

    @classmethod
    def pair(cls, longest_message: int = MAX_MESSAGE_BYTES) -> tuple[Self, Self]:
        """Makes the two ends of a new connection."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left, longest_message), cls(right, longest_message)

    @classmethod
    def from_fd(cls, fd: int, longest_message: int = MAX_MESSAGE_BYTES) -> Self:
        """Wraps an end that this process was started with or received in a message."""
        connected = socket.socket(fileno=fd)
        connected.set_inheritable(False)
        return cls(connected, longest_message)

    def fileno(self) -> int:
        """Returns the file descriptor, for `loop.add_reader`, `select` and `Child`; -1 when closed."""
        return self._socket.fileno()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Sends a message, and copies of file descriptors with it. Waits while the other side's buffer is full.

        Raises:
            ChannelClosedError: The other side has closed.
            MessageTooLongError: It is empty, or longer than the channel takes.
        """
        self._send(message, fds, 0)

    def send_now(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Sends without waiting, for the event loop.

        Raises:
            ChannelClosedError: The other side has closed.
            ChannelFullError: It would have to wait.
            MessageTooLongError: It is empty, or longer than the channel takes.
        """
        try:
            self._send(message, fds, socket.MSG_DONTWAIT)
        except BlockingIOError as error:
            raise ChannelFullError from error

    def receive(self) -> bytes:
        """Waits for a message.

        Raises:
            ChannelClosedError: No message is left, and the other side has closed.
        """
        return self._received(0)

    def receive_now(self) -> bytes | None:
        """Returns the next message, or None if there is none yet. Does not wait.

        Raises:
            ChannelClosedError: No message is left, and the other side has closed.
        """
        try:
            return self._received(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def wait_readable(self, timeout_s: float) -> bool:
        """Waits for a message or the other side's end; returns whether one came within the time."""
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        return bool(readable.poll(timeout_s * 1e3))

    def receive_with_fds(self) -> tuple[bytes, list[int]]:
        """Waits for a message, and returns the file descriptors that came with it, which the caller closes.

        Raises:
            ChannelClosedError: No message is left, and the other side has closed.
        """
        return self._received_with_fds(0)

    def receive_fds_now(self) -> list[int] | None:
        """Returns the file descriptors that came with the next message, or None if there is none yet.

        Does not wait. The caller closes them. The list is empty if this process has no room for more.

        Raises:
            ChannelClosedError: No message is left, and the other side has closed.
        """
        try:
            return self._received_with_fds(socket.MSG_DONTWAIT)[1]
        except BlockingIOError:
            return None

    def shut_down(self) -> None:
        """Ends the connection in both directions and wakes the threads that wait on either side of it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:  # already ended, or closed
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise

    def close(self) -> None:
        """Closes this end. Remove it from the event loop before (`loop.remove_reader`)."""
        self._socket.close()

    def _send(self, message: bytes, fds: Sequence[int], flags: int) -> None:
        if not 0 < len(message) <= self._longest:
            raise MessageTooLongError(f"messages have 1 to {self._longest} bytes, this one has {len(message)}")
        try:
            if fds:
                extra = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._socket.sendmsg([message], [extra], flags)
            else:
                self._socket.send(message, flags)
        except ConnectionError as error:
            raise ChannelClosedError from error
        except OSError as error:
            if error.errno == errno.EBADF:  # closed on this side
                raise ChannelClosedError from error
            raise

    def _received_with_fds(self, flags: int) -> tuple[bytes, list[int]]:
        try:
            # Not `socket.recv_fds` and `send_fds`: they ignore flags before Python 3.13.
            message, extra, _, _ = self._socket.recvmsg(self._longest, _FDS_SPACE, flags | socket.MSG_CMSG_CLOEXEC)
        except ConnectionError as error:
            raise ChannelClosedError from error
        if not message:
            raise ChannelClosedError
        fds = array.array("i")
        for level, kind, data in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) // fds.itemsize * fds.itemsize])
        return message, list(fds)

    def _received(self, flags: int) -> bytes:
        try:
            message = self._socket.recv(self._longest, flags)
        except ConnectionError as error:
            raise ChannelClosedError from error
        if not message:
            raise ChannelClosedError
        return message
