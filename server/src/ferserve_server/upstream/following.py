"""Keeps what is known of the model tier fresh: who is there, and what models it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import FerserveError

if TYPE_CHECKING:
    from ferserve_server.domain.upstream import ModelTier
    from ferserve_server.upstream.models import UpstreamModels

log = structlog.get_logger(__name__)


async def follow_tier(tier: ModelTier, models: UpstreamModels, refresh_s: float) -> None:
    """Asks the tier for its models every `refresh_s` seconds, and at once when it is back. Cancel to stop."""
    back = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(tier, models, back))
        group.create_task(_keep_asking(tier, models, refresh_s, back))


async def _watch(tier: ModelTier, models: UpstreamModels, back: asyncio.Event) -> None:
    known: bool | None = None
    async for reachable in tier.reachable():
        models.reached(reachable=reachable)
        if reachable:
            back.set()
            log.info("model tier answers")
        elif known:
            log.error("model tier lost: no server of it can be reached, or none is ready")
        known = reachable


async def _keep_asking(tier: ModelTier, models: UpstreamModels, refresh_s: float, back: asyncio.Event) -> None:
    failing = False
    while True:
        back.clear()
        try:
            models.told(await tier.models())
            failing = False
        except FerserveError as error:
            if not failing:
                log.warning("model tier does not tell its models", reason=error.reason, text=error.message)
            failing = True
        except Exception:  # whatever is wrong with what it tells: it may be right the next time
            log.exception("model tier tells what cannot be read")
        try:
            await asyncio.wait_for(back.wait(), refresh_s)
        except TimeoutError:
            continue
