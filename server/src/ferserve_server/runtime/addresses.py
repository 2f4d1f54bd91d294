"""Parses the addresses that settings hold, and binds them: HOST:PORT and Unix-domain sockets."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNIX: Final = "unix:"
"""Prefix of a Unix-domain socket's address; its path follows, also as unix:///PATH."""

_MAX_PATH_BYTES: Final = 107
"""Maximum length of a socket's path, in bytes, because sockaddr_un.sun_path has 108, one for the end (unix(7))."""

_TRIES: Final = 20
"""Maximum number of tries to bind, because a port that is free on one address may be taken on another."""


_MAX_PORT: Final = 65_535

_ALL_ADDRESSES: Final = frozenset({"", "0.0.0.0", "::"})

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
"""Pattern of a host name (RFC 1123), with the underscore that container networks use."""


class ListenError(Exception):
    """Reports an address that cannot be listened on; the text names it."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Represents a TCP address.

    Attributes:
        host: Name or address of the host, without brackets; "" for all addresses.
        port: The port; 0 picks a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host or '0.0.0.0'}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Returns whether other machines cannot connect."""
        return self.host == "localhost" or (is_ip_address(self.host) and _ip(self.host).is_loopback)


@dataclass(frozen=True, slots=True)
class UnixPath:
    """Represents the address of a Unix-domain socket, which other machines cannot connect to."""

    path: Path
    is_loopback: bool = True

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


def parse_address(text: str, *, default_host: str = "") -> HostPort | UnixPath:
    """Parses an address. The only parser of addresses to listen on.

    Args:
        text: HOST:PORT, [IPV6]:PORT, :PORT for all addresses, PORT for `default_host`, or unix:PATH.
        default_host: Host of a bare port; "" for all addresses.

    Raises:
        ValueError: It has none of these forms; the text says what to write.
    """
    if is_unix(text):
        path = path_of(text)
        if not path.name:
            raise ValueError("unix: needs a path, such as unix:/run/ferserve.sock")
        return UnixPath(path)
    host, colon, port = text.rpartition(":")
    if not colon:
        return HostPort(default_host, _parse_port(text))
    if host.startswith("[") or host.endswith("]"):
        name = host[1:-1]
        if not (host.startswith("[") and host.endswith("]") and ":" in name and is_ip_address(name)):
            raise ValueError("brackets hold an IPv6 address, such as [::1]:50051")
        return HostPort(name, _parse_port(port))
    if ":" in host:
        raise ValueError("an IPv6 address needs brackets, such as [::1]:50051")
    if host and not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host!r} is not the name of a host")
    if host and re.fullmatch(r"[0-9.]+", host) and not is_ip_address(host):
        raise ValueError(f"{host!r} is not an IPv4 address")
    return HostPort(host, _parse_port(port))


def sibling_address(text: str, main: str, flag: str) -> str:
    """Completes the address of a server beside the main one: a bare port means the main one's host.

    Args:
        text: The address.
        main: Address of the main server; beside a Unix-domain socket a bare port means 127.0.0.1.
        flag: Names the setting in errors.

    Raises:
        ListenError: One of the two is no address.
    """
    try:
        beside = parse_address(main)
    except ValueError as error:
        raise ListenError(f"cannot listen on {main!r}: {error}; choose another with --listen") from error
    try:
        host = "127.0.0.1" if isinstance(beside, UnixPath) else beside.host
        return str(parse_address(text, default_host=host))
    except ValueError as error:
        raise ListenError(f"cannot listen on {text!r}: {error}; choose another with {flag}") from error


def is_ip_address(host: str) -> bool:
    """Returns whether a text is an IP address; IPv6 without brackets, with or without a zone."""
    try:
        _ip(host)
    except ValueError:
        return False
    return True


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) <= _MAX_PORT):
        raise ValueError(f"the port is a number from 0 to {_MAX_PORT}, not {text!r}; write HOST:PORT or PORT")
    return int(text)


def is_unix(address: str) -> bool:
    """Returns whether an address is a Unix-domain socket's, by its prefix."""
    return address.startswith(UNIX)


@contextlib.contextmanager
def claimed(address: str, flag: str) -> Iterator[None]:
    """Makes room for a Unix-domain socket, and removes its file at the end; ignores other addresses.

    gRPC replaces any existing socket, in use or not, and may leave its own behind.

    Args:
        address: The address listened on within the block.
        flag: Names the setting in errors.

    Raises:
        ListenError: Another process listens there, it is another file, or its folder does not exist.
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
    """Reserves a port that several processes listen on, for as long as this is open.

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
            parsed = host_port(address)
            self._sockets = _bind(parsed.host, parsed.port, _reserve)
        except (OSError, ValueError) as error:
            raise ListenError(
                f"cannot listen on {address!r}: {_cause(error)}; choose another with {flag}"
            ) from error
        self.port: int = self._sockets[0].getsockname()[1]
        self.address = str(HostPort(parsed.host, self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


def host_port(address: str) -> HostPort:
    """Parses a TCP address.

    Raises:
        ValueError: See `parse_address`; or it is a Unix-domain socket's.
    """
    parsed = parse_address(address)
    if isinstance(parsed, UnixPath):
        raise ValueError("use HOST:PORT")  # noqa: TRY004 - the value is wrong, not its type
    return parsed


@contextlib.contextmanager
def bound(address: str, flag: str) -> Iterator[list[socket.socket]]:
    """Binds all sockets that an address names, to be listened on within the block.

    Every address of the host has the same port. A host that means all addresses, 0.0.0.0 or [::], means those of
    both families where there are both, as with gRPC.

    Args:
        address: See `parse_address`; port 0 picks a free one.
        flag: Names the setting in errors.

    Raises:
        ListenError: It is taken, or no address of this host, or none at all.
    """
    with claimed(address, flag):
        try:
            sockets = [_file_socket(path_of(address))] if is_unix(address) else _port_sockets(host_port(address))
        except (OSError, ValueError) as error:
            raise ListenError(
                f"cannot listen on {address!r}: {_cause(error)}; choose another with {flag}"
            ) from error
        try:
            yield sockets
        finally:
            for each in sockets:
                each.close()


def port_of(sockets: list[socket.socket]) -> int | None:
    """Returns the port that `bound` has bound; None for a socket's file."""
    if sockets[0].family == socket.AF_UNIX:
        return None
    port: int = sockets[0].getsockname()[1]
    return port


def _file_socket(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        made.listen()  # at once: another server takes a file without a listener for one left behind
    except BaseException:
        made.close()
        raise
    return made


def _port_sockets(address: HostPort) -> list[socket.socket]:
    host, port = address.host, address.port
    if host in _ALL_ADDRESSES and (both := _of_both_families(port)) is not None:
        return [both]

    def bind(family: int, name: str, number: int) -> socket.socket:
        return _bound(family, name, number, share=False)

    return _bind(host, port, bind)


def _of_both_families(port: int) -> socket.socket | None:
    """Returns a socket for all addresses of both families; None where there is no IPv6."""
    if not socket.has_dualstack_ipv6():
        return None
    try:
        return _bound(socket.AF_INET6, "::", port, share=False)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return None
        raise


def _cause(error: OSError | ValueError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host is known"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _bind(host: str, port: int, bind: Callable[[int, str, int], socket.socket]) -> list[socket.socket]:
    places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found = list(dict.fromkeys((family, place[0]) for family, _, _, _, place in places))
    for attempt in range(_TRIES):
        bound: list[socket.socket] = []
        try:
            for family, name in found:
                number = bound[0].getsockname()[1] if bound else port
                try:
                    bound.append(bind(family, str(name), number))
                except OSError as error:
                    # "localhost" names ::1 also where this machine has no IPv6.
                    if error.errno not in _NOT_HERE or is_ip_address(host):
                        raise
            if not bound:
                raise OSError(errno.EADDRNOTAVAIL, "no address of this host is one of this machine")  # noqa: TRY301
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
    """Returns a socket bound to the port; without `share` it fails where any other process listens."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # All IPv6 addresses include those of IPv4; for others it makes no difference.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in _ALL_ADDRESSES))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignores a previous server's connections
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def path_of(address: str) -> Path:
    """Returns the file of a Unix-domain socket's address."""
    path = address.removeprefix(UNIX)
    return Path(path.removeprefix("//") if path.startswith("///") else path)


def _make_room(path: Path) -> str:
    """Removes a socket without a listener; returns why a new one cannot be there, or ""."""
    try:
        if len(bytes(path)) > _MAX_PATH_BYTES:
            fault = f"the path of a socket has at most {_MAX_PATH_BYTES} bytes"
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
        except BlockingIOError:  # its backlog is full
            return True
        except OSError:
            return False
        return True
