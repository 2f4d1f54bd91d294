"""Work on models that goes on beside the service: keeping them, judging canaries, and unloading at the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.background import background
from ferserve_server.repository.watching import looks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ferserve_server.repository.manager import ModelManager
    from ferserve_server.settings import Settings

log = structlog.get_logger(__name__)

_LONGEST_UNLOAD_S: Final = 1.0
"""Draining is over by then, and unloading takes milliseconds; a stop ends within 2 s of it."""

_LOOKS_PER_WINDOW: Final = 20
_LONGEST_BETWEEN_LOOKS_S: Final = 1.0
"""A canary is judged 20 times in its window, and every second in a long one: a bad one does harm until then."""


@contextlib.contextmanager
def kept(manager: ModelManager | None, settings: Settings, count_failure: Callable[[str], None]) -> Iterator[None]:
    """Keeps models loaded, and canaries judged, beside the block; None: no models run here."""
    with contextlib.ExitStack() as stack:
        if manager is not None:
            stack.enter_context(background("models", lambda: keep_models(manager, settings), count_failure))
            if (window_s := settings.canaries.shortest_window_s) is not None:
                stack.enter_context(
                    background("canaries", lambda: judge_canaries(manager, window_s), count_failure)
                )
        yield


async def close_models(manager: ModelManager | None) -> None:
    """Unloads what can be unloaded; an engine that hangs would hold the exit up for its whole timeout."""
    if manager is None:
        return
    try:
        async with asyncio.timeout(_LONGEST_UNLOAD_S):
            await manager.close()
    except TimeoutError:
        log.error("models not unloaded in time", timeout_s=_LONGEST_UNLOAD_S)  # noqa: TRY400 - no trace to show


async def keep_models(manager: ModelManager, settings: Settings) -> None:
    """Loads what is there, and keeps looking for more."""
    await manager.refresh()
    if not manager.default_ready:
        log.error(
            "the default model is not ready; put it into the model folder or name another with --default-model",
            model=settings.default_model,
            model_repo=str(settings.model_repo),
        )
    if settings.repository_poll_s:
        async with contextlib.aclosing(looks(settings.model_repo, settings.repository_poll_s)) as moments:
            await manager.watch(moments)


async def judge_canaries(manager: ModelManager, shortest_window_s: float) -> None:
    """Looks at the figures of canaries again and again, as often as the shortest window of a model wants it."""
    while True:
        await asyncio.sleep(min(shortest_window_s / _LOOKS_PER_WINDOW, _LONGEST_BETWEEN_LOOKS_S))
        await manager.judge_canaries()
