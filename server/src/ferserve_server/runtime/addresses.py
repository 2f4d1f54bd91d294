"""Addresses, and what they need before a server takes them: files of sockets, and ports of several processes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNIX: Final = "unix:"
"""What the address of a Unix-domain socket begins with; its path follows, also as unix:///PATH."""

_LONGEST_PATH_BYTES: Final = 107
"""sockaddr_un.sun_path has 108 bytes, one of them for the end (unix(7))."""

_TRIES: Final = 20
"""A port that is free on one of a host's addresses may be taken on another."""


_MOST_PORT: Final = 65_535

_ALL_ADDRESSES: Final = frozenset({"", "0.0.0.0", "::"})


class ListenError(Exception):
    """The address cannot be listened on; the text says which."""


def is_unix(address: str) -> bool:
    """Whether an address is a Unix-domain socket's."""
    return address.startswith(UNIX)


@contextlib.contextmanager
def claimed(address: str, flag: str) -> Iterator[None]:
    """Makes room for a Unix-domain socket, and removes its file at the end; other addresses are left alone.

    gRPC replaces whatever socket is there, in use or not, and may leave its own behind.

    Args:
        address: What will be listened on within the block.
        flag: Names the setting in errors.

    Raises:
        ListenError: Another process listens there, it is another file, or its folder is not there.
    """
    if not is_unix(address):
        yield
        return
    path = path_of(address)
    fault = _make_room(path)
    if fault:
        raise ListenError(f"cannot listen on {address!r}: {fault}; choose another with {flag}")
    try:
        yield
    finally:
        if path.is_socket() and not _answers(path):
            path.unlink(missing_ok=True)


class ReservedPort:
    """A port that several processes listen on: kept from others for as long as this is open.

    It is bound here with SO_REUSEPORT and not listened on, so that it gets no connections. Open it as a context
    manager.

    Attributes:
        port: The port.
        address: HOST:PORT for the other processes to listen on, with SO_REUSEPORT.
    """

    def __init__(self, address: str, flag: str) -> None:
        """Binds the port.

        Args:
            address: HOST:PORT; port 0 picks a free one.
            flag: Names the setting in errors.

        Raises:
            ListenError: It is no HOST:PORT, or it is taken.
        """
        try:
            self._sockets = _bind(*host_and_port(address), _reserve)
        except (OSError, ValueError) as error:
            raise ListenError(f"cannot listen on {address!r}: {error}; choose another with {flag}") from error
        self.port: int = self._sockets[0].getsockname()[1]
        self.address = f"{address.rpartition(':')[0]}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT, [HOST]:PORT for IPv6.

    Raises:
        ValueError: It is none.
    """
    host, _, text = address.rpartition(":")
    port = int(text)
    if not 0 <= port <= _MOST_PORT:
        raise ValueError(f"a port is 0 to {_MOST_PORT}")
    return host.strip("[]"), port


@contextlib.contextmanager
def bound(address: str, flag: str) -> Iterator[list[socket.socket]]:
    """Binds all that an address names, to be listened on within the block.

    Every address of the host has the same port. A host that means all addresses, 0.0.0.0 or [::], means those of
    both families where there are both, as with gRPC.

    Args:
        address: HOST:PORT or unix:PATH; port 0 picks a free one.
        flag: Names the setting in errors.

    Raises:
        ListenError: It is taken, or no address of this host, or none at all.
    """
    with claimed(address, flag):
        try:
            sockets = [_file_socket(path_of(address))] if is_unix(address) else _port_sockets(address)
        except (OSError, ValueError) as error:
            raise ListenError(f"cannot listen on {address!r}: {error}; choose another with {flag}") from error
        try:
            yield sockets
        finally:
            for each in sockets:
                each.close()


def port_of(sockets: list[socket.socket]) -> int | None:
    """The port of what `bound` has bound; None for a socket's file."""
    if sockets[0].family == socket.AF_UNIX:
        return None
    port: int = sockets[0].getsockname()[1]
    return port


def _file_socket(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        made.listen()  # at once: another server takes a file that nobody listens on for one left behind
    except BaseException:
        made.close()
        raise
    return made


def _port_sockets(address: str) -> list[socket.socket]:
    host, port = host_and_port(address)
    if host in _ALL_ADDRESSES and (both := _of_both_families(port)) is not None:
        return [both]

    def bind(family: int, name: str, number: int) -> socket.socket:
        return _bound(family, name, number, share=False)

    return _bind(host, port, bind)


def _of_both_families(port: int) -> socket.socket | None:
    """A socket for all addresses; None where there is no IPv6."""
    if not socket.has_dualstack_ipv6():
        return None
    try:
        return _bound(socket.AF_INET6, "::", port, share=False)
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None
        raise


def _bind(host: str, port: int, bind: Callable[[int, str, int], socket.socket]) -> list[socket.socket]:
    places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = list(dict.fromkeys((family, place[0]) for family, _, _, _, place in places))
    for attempt in range(_TRIES):
        bound: list[socket.socket] = []
        try:
            for family, name in found:
                number = bound[0].getsockname()[1] if bound else port
                bound.append(bind(family, str(name), number))
        except OSError:
            for each in bound:
                each.close()
            if port or attempt == _TRIES - 1:
                raise
        else:
            return bound
    raise OSError("no port is free")


def _reserve(family: int, host: str, port: int) -> socket.socket:
    if port:
        _bound(family, host, port, share=False).close()
    return _bound(family, host, port, share=True)


def _bound(family: int, host: str, port: int, *, share: bool) -> socket.socket:
    """A socket on the port; without `share` it cannot be had where any other process listens."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # All addresses are those of IPv4 too; for others it makes no difference.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in _ALL_ADDRESSES))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a server before left behind is no one's
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def path_of(address: str) -> Path:
    """The file of a Unix-domain socket's address."""
    path = address.removeprefix(UNIX)
    return Path(path.removeprefix("//") if path.startswith("///") else path)


def _make_room(path: Path) -> str:
    """Removes a socket that nobody listens on; returns why a new one cannot be there, or ""."""
    try:
        if len(bytes(path)) > _LONGEST_PATH_BYTES:
            fault = f"the path of a socket has at most {_LONGEST_PATH_BYTES} bytes"
        elif not path.parent.is_dir():
            fault = f"there is no folder {path.parent}"
        elif not os.path.lexists(path):
            fault = ""
        elif not stat.S_ISSOCK(path.lstat().st_mode):
            fault = "there is a file of that name"
        elif _answers(path):
            fault = "another process listens there"
        else:
            fault = ""
            path.unlink(missing_ok=True)
    except OSError as error:
        fault = str(error)
    return fault


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # its line of connections is full
            return True
        except OSError:
            return False
        return True
