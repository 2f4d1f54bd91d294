"""Bounds the connections of a port, and reserves file descriptors for the server's own use."""

from __future__ import annotations

import ipaddress
import resource
import threading
from collections import Counter
from typing import Final

DESCRIPTORS_WANTED: Final = 65_536
"""Soft limit of open files that is set at the start, because systems set 1,024 for select(2), unused here."""

DESCRIPTORS_RESERVED: Final = 256
"""Descriptors reserved from connections, because an engine process uses 8, loading a version up to 20."""


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files as far as the hard limit allows, at most to `DESCRIPTORS_WANTED`.

    Returns:
        The soft limit now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(DESCRIPTORS_WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return DESCRIPTORS_WANTED if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def connection_budget(wanted: int, descriptor_limit: int) -> int:
    """Bounds a number of connections so that no port can use up the descriptors. Pure.

    Args:
        wanted: Connections that the settings allow.
        descriptor_limit: Files that the process may have open.

    Returns:
        At most `wanted` and at most half of what is not reserved, 8 or more: the other half is for gRPC.
    """
    return max(8, min(wanted, (descriptor_limit - DESCRIPTORS_RESERVED) // 2))


class ConnectionLimiter:
    """Counts the open connections of one port, in all and by address. Thread-safe.

    Args of the constructor:
        total: Maximum number of connections, 1 or more.
        per_address: Maximum number of connections from one IPv4 address or one /64 network of IPv6.

    Attributes:
        rejected_count: Number of rejected connections.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._counts: Counter[str] = Counter()
        self._open_count = 0
        self._lock = threading.Lock()
        self.rejected_count = 0

    @property
    def open_count(self) -> int:
        """Returns the number of open connections."""
        return self._open_count

    def enter(self, host: str) -> ConnectionSlot | None:
        """Accepts a connection, or rejects it.

        Args:
            host: Address of the peer; "" for a Unix-domain socket, which is bound in all only.

        Returns:
            The slot to release at the connection's end, or None if the limit is reached.
        """
        key = _network_of(host)
        with self._lock:
            if self._open_count >= self._total or (key and self._counts[key] >= self._per_address):
                self.rejected_count += 1
                return None
            self._open_count += 1
            self._counts[key] += 1
        return ConnectionSlot(self, key)

    def _leave(self, key: str) -> None:
        with self._lock:
            self._open_count -= 1
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


class ConnectionSlot:
    """Represents one open connection. `leave` may be called more than once, by one thread at a time."""

    def __init__(self, limiter: ConnectionLimiter, key: str) -> None:
        self._limiter: ConnectionLimiter | None = limiter
        self._key = key

    def leave(self) -> None:
        """Releases the connection's slot."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter._leave(self._key)  # noqa: SLF001 - one class in two parts


def _network_of(host: str) -> str:
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)
