"""The models of a service with front processes: a change is told to all of them before it counts as made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ferserve_server.domain.models import Acquire, Models
    from ferserve_server.domain.servable import ModelStatus


class ToldModels:
    """Implements `domain.models.Models` on another. Event loop only.

    Args of the constructor:
        models: The models.
        told: Awaited after every change; returns when whoever takes calls in knows of it.
    """

    def __init__(self, models: Models, told: Callable[[], Awaitable[None]]) -> None:
        self._models = models
        self._told = told

    @property
    def default_ready(self) -> bool:
        """See `domain.models.Models`; so for the following ones."""
        return self._models.default_ready

    @property
    def acquire(self) -> Acquire:  # noqa: D102 - see `default_ready`
        return self._models.acquire

    def models(self) -> tuple[ModelStatus, ...]:  # noqa: D102 - see `default_ready`
        return self._models.models()

    def model(self, name: str) -> ModelStatus:  # noqa: D102 - see `default_ready`
        return self._models.model(name)

    async def refresh(self) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.refresh())

    async def load(self, name: str, version: int) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.load(name, version))

    async def unload(self, name: str, version: int) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.unload(name, version))

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.set_alias(name, alias, version))

    async def promote(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.promote(name, version))

    async def roll_back(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `default_ready`
        await self._change(self._models.roll_back(name, version))

    async def _change(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        finally:
            await self._told()  # a load that failed has changed what there is to tell, too
