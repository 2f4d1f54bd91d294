"""Parses the address of a model tier into a gRPC target. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_SCHEME: Final = re.compile(r"(?:dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):")
"""Prefix of gRPC targets that are passed on unchanged (https://github.com/grpc/grpc/blob/master/doc/naming.md)."""

_EXAMPLES: Final = "dns:///models:50051, models:50051, or 10.0.0.7:50051,10.0.0.8:50051"


def parse_target(text: str) -> str:
    """Parses the gRPC target of a model tier.

    Args:
        text: A gRPC target; HOST:PORT, of which all addresses from DNS are used; or several ADDRESS:PORT,
            separated by commas, all of IPv4 or all of IPv6.

    Raises:
        ValueError: It is none of these; the text says what to write.
    """
    if _SCHEME.match(text):
        return text
    parts = [_split(part.strip()) for part in text.split(",")]
    if len(parts) == 1 and _version(parts[0][0]) is None:
        (host, port) = parts[0]
        return f"dns:///{host}:{port}"
    versions = {_version(host) for host, _ in parts}
    if versions == {4}:
        return "ipv4:" + ",".join(f"{host}:{port}" for host, port in parts)
    if versions == {6}:
        return "ipv6:" + ",".join(f"[{host}]:{port}" for host, port in parts)
    raise ValueError(
        f"several servers must be given by their addresses, all of IPv4 or all of IPv6, got {text!r}; or put them "
        f"under one name in DNS, such as dns:///models:50051"
    )


def _split(part: str) -> tuple[str, int]:
    host, colon, port = part.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"{part!r} is not HOST:PORT; write such as {_EXAMPLES}")
    bare = host.removeprefix("[").removesuffix("]")
    if (":" in bare and _version(bare) != 6) or any(letter in bare for letter in "/ @"):
        raise ValueError(f"{part!r} is not HOST:PORT; write such as {_EXAMPLES}")
    return bare, int(port)


def _version(host: str) -> int | None:
    """Returns 4 or 6 for an address, None for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
