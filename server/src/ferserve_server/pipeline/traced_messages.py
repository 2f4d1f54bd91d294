"""Traces single messages of streams, which have no span of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.trace import inside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ferserve_server.domain.trace import StreamTrace

Outcome = TypeVar("Outcome")


def _itself(outcome: object) -> object:
    return outcome


async def traced_message(
    stream: StreamTrace | None, work: Awaitable[Outcome], failure: Callable[[Outcome], object] = _itself
) -> Outcome:
    """Waits for the work on a message that has just arrived, with a span if the message is sampled.

    Args:
        stream: Samples the messages of the stream; None: none is traced.
        work: Not begun yet. It runs in the current context, which must be the message's own.
        failure: Returns the FerserveError that an outcome holds, or anything else.
    """
    trace = None if stream is None else stream.begin_message()
    if trace is None:
        return await work
    with inside((trace.span,)):
        outcome = await work
    error = failure(outcome)
    trace.end("", error.reason if isinstance(error, FerserveError) else "")
    return outcome
