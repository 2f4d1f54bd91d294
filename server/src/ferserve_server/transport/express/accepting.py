"""The listener of the express door: accepts connections, and gives them to whoever is to have them."""

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
"""Connections that may wait to be taken."""

_PER_TURN: Final = 32
"""Then other work of the event loop gets its turn: each takes some 50 us to begin."""

_PAUSE_S: Final = 0.1
"""How long nobody is accepted when the system has no room for another; they wait meanwhile."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@contextlib.contextmanager
def accepting(sockets: Sequence[socket.socket], take: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listens on bound sockets and accepts until the block is left. Event loop only.

    Args:
        sockets: Closed by the caller, after the block.
        take: Takes over a connected socket that does not block; must not raise.

    Raises:
        ListenError: Somebody else listens there.
    """
    listeners = [_Listener(each, take) for each in sockets]
    try:
        for listener in listeners:
            listener.open()
        yield
    finally:
        for listener in listeners:
            listener.close()


class _Listener:
    def __init__(self, listening: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._socket = listening
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self._socket.setblocking(False)
        try:
            self._socket.listen(_BACKLOG)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {self._socket.getsockname()}: {error}; choose another with --listen"
            ) from error
        self._watch()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_PER_TURN):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    continue  # whoever it was has left
                log.error("connections wait: no room for another", error=str(error))  # noqa: TRY400 - no trace
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE_S, self._watch)
                return
            accepted.setblocking(False)
            self._take(accepted)
