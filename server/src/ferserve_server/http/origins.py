"""Decides whether a web page may use an interface that changes something or keeps a connection. Pure.

Browsers send `Origin` with every WebSocket handshake and every POST. Requests without it do not come from a page.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ferserve_server.domain.control_errors import OriginNotAllowedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class OriginPolicy:
    """Compares the headers `Origin` and `Host` of a request. Thread-safe.

    Args of the constructor:
        allowed: Origins that are allowed beside the server's own, such as https://faces.example.com.
        host_name: Name of this machine; the machine's own by default.
    """

    def __init__(self, allowed: Collection[str] = (), *, host_name: str | None = None) -> None:
        self._allowed = frozenset(origin.lower().rstrip("/") for origin in allowed)
        self._allowed_hosts = frozenset(urlsplit(origin).hostname or "" for origin in self._allowed)
        self._host_name = (socket.gethostname() if host_name is None else host_name).partition(".")[0].lower()

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Rejects requests of pages from other servers.

        Args:
            headers: Headers of the request, looked up without regard to case.

        Raises:
            OriginNotAllowedError: `Origin` is another one than that of the address in `Host`, and not allowed.
        """
        origin = headers.get("Origin")
        if origin is None:
            if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
                raise OriginNotAllowedError("(not sent)")
            return
        if origin.lower() in self._allowed:
            return
        # The scheme is not compared: a proxy that ends TLS changes it.
        if urlsplit(origin).netloc.lower() != headers.get("Host", "").lower() or not urlsplit(origin).netloc:
            raise OriginNotAllowedError(origin)

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Rejects requests whose `Host` is a name that a foreign name server could map to this machine.

        Addresses cannot be rebound. Names that are taken: localhost, this machine's, and those of allowed origins.

        Args:
            headers: As above.

        Raises:
            OriginNotAllowedError: `Host` is another name.
        """
        host = headers.get("Host", "")
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if name == "localhost" or name.endswith(".localhost") or name in self._allowed_hosts:
            return
        if name and name.partition(".")[0] == self._host_name and not _is_address(name):
            return
        if not _is_address(name):
            raise OriginNotAllowedError(host)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
