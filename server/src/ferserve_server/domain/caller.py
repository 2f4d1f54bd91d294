"""Defines the source of a request, for fair shares between callers."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class CallerKind(Enum):
    """Defines how a caller was identified."""

    UNKNOWN = "unknown"
    CONNECTION = "connection"
    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105 - the kind, not a token


class CallerId(NamedTuple):
    """Identifies a caller: requests with equal values share one place in the queues.

    An authenticated identity counts over all of its connections; without one the connection itself is the caller.
    Nothing that a caller may choose freely, such as a header, may be part of it: the shares are there to hold
    against callers that want more than theirs.

    Attributes:
        kind: What `name` is.
        name: The connection, as its peer's address or a number unique in the server, or the authenticated name.
    """

    kind: CallerKind
    name: str


UNKNOWN_CALLER = CallerId(CallerKind.UNKNOWN, "")
"""Caller of the server's own requests, and of transports that cannot tell callers apart."""
