"""The order in which a process that takes calls in goes down."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ferserve_server.config.settings import Settings
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.health import HealthReporter

log = structlog.get_logger(__name__)

_QUIET_S: Final = 0.1
"""After a drain the server stops when no call came for this long: a round trip within a continent."""

_LONGEST_GOODBYE_S: Final = 1.0
"""But it waits for that no longer than this, should callers not heed the drain."""

DRAIN_SLACK_S: Final = _LONGEST_GOODBYE_S + 4.0
"""What a drain may take beyond `lame_duck_s` and `drain_timeout_s`: the goodbye, and a busy machine."""


async def drain(
    settings: Settings, health: HealthReporter, calls: Calls, stop: Callable[[], Awaitable[None]]
) -> bool:
    """Goes down in good order: health first, then intake, then what was taken.

    Args:
        settings: How long it may take.
        health: Says NOT_SERVING from now on.
        calls: The calls.
        stop: Stops what listens.

    Returns:
        Whether all that was taken was answered in time. If not, nothing was stopped.
    """
    await health.drain()
    await asyncio.sleep(settings.lame_duck_s)
    calls.draining.set()
    try:
        async with asyncio.timeout(settings.drain_timeout_s):
            await calls.wait_idle()
    except TimeoutError:
        log.error("drain timed out; calls are cut")  # noqa: TRY400 - no trace: nothing is broken
        return False
    # Every call that was taken is answered. Those on their way here get DRAINING rather than be cut off.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_GOODBYE_S):
            await calls.wait_quiet(_QUIET_S)
    # The answers are written; a moment for the transport to send them.
    await stop()
    return True
