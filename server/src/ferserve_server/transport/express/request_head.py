"""What the headers of a call say: its method, its deadline, its metadata. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_server.transport.express.frames import ErrorCode, StreamFault

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNIT_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"[0-9]{1,8}[HMSmun]", re.ASCII)
"""Forms of grpc-timeout (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""

_OF_THE_CALL: Final = frozenset({"te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"})
"""Headers that gRPC keeps to itself; all others are the caller's metadata."""

_OF_CONNECTIONS: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
"""They have no place in HTTP/2 (RFC 9113, 8.2.2)."""

_PSEUDO: Final = frozenset({":method", ":scheme", ":path", ":authority"})


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a call begins with.

    Attributes:
        path: /package.Service/Method.
        timeout_s: How long the caller waits, in seconds, or None.
        metadata: Names and values of the caller's own headers.
        http_status: The status of a refusal that is HTTP's and not gRPC's; 0 if there is none.
        fault: Why gRPC cannot take it, or "".
        encoding: What the messages that say so are compressed with.
    """

    path: str
    timeout_s: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    http_status: int = 0
    fault: str = ""
    encoding: str = "identity"


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Reads the headers of a request, as they come out of HPACK.

    Raises:
        StreamFault: They are no request of HTTP/2 (RFC 9113, 8.2 and 8.3).
    """
    pseudo: dict[str, str] = {}
    own: dict[str, str] = {}
    metadata: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = bytes(raw_name).decode("latin-1"), bytes(raw_value).decode("latin-1")
        if name.startswith(":"):
            if name not in _PSEUDO or name in pseudo or own or metadata:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"{name} has no place there")
            pseudo[name] = value
        elif name in _OF_CONNECTIONS or name != name.lower() or not name:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, f"{name!r} is no header of HTTP/2")
        elif name in _OF_THE_CALL:
            own[name] = value
        else:
            metadata.append((name, value))
    path = pseudo.get(":path", "")
    if not path or ":method" not in pseudo or ":scheme" not in pseudo:
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a request has :method, :scheme and :path")
    http_status = 0
    if pseudo[":method"] != "POST":
        http_status = 405
    elif not is_grpc(own.get("content-type", "")):
        http_status = 415
    timeout_s, fault = None, ""
    if "grpc-timeout" in own:
        timeout_s = parse_timeout(own["grpc-timeout"])
        fault = "" if timeout_s is not None else f"grpc-timeout {own['grpc-timeout'][:20]!r} cannot be read"
    return RequestHead(path, timeout_s, tuple(metadata), http_status, fault, own.get("grpc-encoding", "identity"))


def is_grpc(content_type: str) -> bool:
    """Whether it is application/grpc, whatever the messages are encoded with."""
    return content_type == "application/grpc" or content_type.startswith(
        ("application/grpc+", "application/grpc;")
    )


def parse_timeout(text: str) -> float | None:
    """The seconds of a grpc-timeout, 0 or more; None if it cannot be read."""
    return int(text[:-1]) * _UNIT_S[text[-1]] if _TIMEOUT.fullmatch(text) else None
