"""Stops a process that serves calls, in an order that loses none of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ferserve_server.config.settings import Settings
    from ferserve_server.runtime.endpoint import Endpoint
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.health import HealthReporter

log = structlog.get_logger(__name__)

_MAX_DISCONNECT_WAIT_S: Final = 1.0
"""Maximum wait for clients to leave, in seconds, because they may ignore that they are asked to."""

_LOOK_S: Final = 0.01
"""Interval between looks whether all have left, in seconds."""

DRAIN_SLACK_S: Final = _MAX_DISCONNECT_WAIT_S + 0.2
"""Maximum time of a drain beyond `lame_duck_s` and `drain_timeout_s`, in seconds: the wait for late calls."""


async def drain(
    settings: Settings,
    health: HealthReporter,
    calls: Calls,
    endpoints: Sequence[Endpoint],
    stop: Callable[[], Awaitable[None]],
) -> bool:
    """Drains the process: sets health to NOT_SERVING, asks clients to leave, then completes accepted calls.

    Clients learn it first, and their calls are rejected last: what they send until they know is answered. Streams
    end, since they could go on forever.

    Args:
        settings: Limits of its duration.
        health: Says NOT_SERVING from now on.
        calls: The calls.
        endpoints: Where clients are connected.
        stop: Closes the connections that are left.

    Returns:
        True if all accepted calls were answered in time. If not, nothing was stopped.
    """
    await health.drain()
    await asyncio.sleep(settings.server.lame_duck_s)
    for endpoint in endpoints:
        endpoint.leave()
    calls.draining.set()
    try:
        async with asyncio.timeout(settings.server.drain_timeout_s):
            await calls.wait_idle()
    except TimeoutError:
        log.error("drain timed out; calls are cut")  # noqa: TRY400 - no trace: nothing is broken
        return False
    # Every accepted call is answered. Clients that are still connected may send others until they know.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_MAX_DISCONNECT_WAIT_S):
            while calls.open_count or not all(  # noqa: ASYNC110 - transports tell nobody that a client has left
                endpoint.has_left() for endpoint in endpoints
            ):
                await asyncio.sleep(_LOOK_S)
    calls.closing = True
    # The answers are written; a moment for the transport to send them.
    await stop()
    return True
