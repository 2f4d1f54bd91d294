"""Turns timeouts into what gRPC takes as a deadline."""

from __future__ import annotations

MAX_TIMEOUT_S = 1e8
"""Longest deadline that is sent, about three years. gRPC counts in int64 nanoseconds since 1970: a later end
overflows there, and the call expires at once instead of never."""


def grpc_timeout(timeout_s: float | None) -> float | None:
    """Return the timeout for gRPC; None, no deadline, for what is longer than `MAX_TIMEOUT_S` or infinite."""
    return None if timeout_s is None or timeout_s > MAX_TIMEOUT_S else timeout_s
