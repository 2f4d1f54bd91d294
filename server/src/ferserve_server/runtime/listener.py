"""Accepts connections on bound sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.runtime.addresses import ListenError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

log = structlog.get_logger(__name__)

_BACKLOG: Final = 1024
"""Maximum connections that wait to be accepted."""

_PER_ITERATION: Final = 32
"""Maximum connections accepted per event-loop iteration, because each takes about 50 us to start."""

_PAUSE_S: Final = 0.1
"""Pause while the system has no resources for another connection; they wait meanwhile."""

_NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@contextlib.contextmanager
def accepting(
    sockets: Sequence[socket.socket], accept: Callable[[socket.socket], None], flag: str = "--listen"
) -> Iterator[Callable[[], None]]:
    """Listens on bound sockets and accepts until the block is left. Event loop only.

    Args:
        sockets: Closed by the caller, after the block.
        accept: Accepts a connected, non-blocking socket; must not raise.
        flag: Names the setting in errors.

    Yields:
        What closes the sockets before the end of the block, so that no further client can connect.

    Raises:
        ListenError: Another process listens there.
    """
    listeners = [_Listener(each, accept, flag) for each in sockets]

    def leave() -> None:
        for listener in listeners:
            listener.leave()

    try:
        for listener in listeners:
            listener.open()
        yield leave
    finally:
        for listener in listeners:
            listener.close()


class _Listener:
    def __init__(self, listening: socket.socket, accept: Callable[[socket.socket], None], flag: str) -> None:
        self._socket = listening
        self._accept = accept
        self._flag = flag
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self._socket.setblocking(False)
        try:
            self._socket.listen(_BACKLOG)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {self._socket.getsockname()}: {error}; choose another with {self._flag}"
            ) from error
        self._watch()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)

    def leave(self) -> None:
        """Closes the socket. Clients that have connected already are accepted first, or they would be reset."""
        if self._socket.fileno() < 0:
            return
        for _ in range(_BACKLOG // _PER_ITERATION):
            if not self._accept_some():
                break
        self.close()
        self._socket.close()

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept_some)

    def _accept_some(self) -> bool:
        """Accepts clients; returns whether there may be more."""
        for _ in range(_PER_ITERATION):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    continue  # the client has left already
                log.error("connections wait: no resources for another", error=str(error))  # noqa: TRY400 - no trace
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE_S, self._watch)
                return False
            accepted.setblocking(False)
            self._accept(accepted)
        return True
