"""Follows whether the models answer: for health, for worker processes, and to open the addresses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ferserve_server.app.services import follow_health

if TYPE_CHECKING:
    from ferserve_server.domain.models import Models
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.workers.supervisor import WorkerSupervisor


class Readiness:
    """Follows whether the models answer. Event loop only.

    Args of the constructor:
        at_once: True to accept calls before a model answers.
        looked: True if the models that are reported first are all that there are.

    Attributes:
        workers: The worker processes, once there are any.
    """

    def __init__(self, *, at_once: bool, looked: bool) -> None:
        self.workers: WorkerSupervisor | None = None
        self._looked = looked
        self._changed = asyncio.Event()
        self._answering = asyncio.Event()
        if at_once:
            self._answering.set()

    def models_changed(self) -> None:
        """Notes that a version, its engine's health, or the way of requests changed."""
        self._changed.set()
        if self.workers is not None:
            self.workers.state_changed()

    def first_look_ended(self) -> None:
        """Notes that all versions that were found first are loaded, or have failed."""
        self._looked = True
        self._changed.set()

    async def sync(self) -> None:
        """Waits until the worker processes know all changes so far."""
        if self.workers is not None:
            await self.workers.sync()

    async def follow(self, models: Models, health: HealthReporter) -> None:
        """Updates the health status, and what waits for a model. Cancel to stop."""

        def update() -> None:
            if is_answering(models, looked=self._looked):
                self._answering.set()

        await follow_health(models, health, self._changed, update)

    async def wait(self) -> None:
        """Waits until calls may be accepted."""
        await self._answering.wait()


def is_answering(models: Models, *, looked: bool) -> bool:
    """Returns whether calls can be accepted: the default model answers, or another one after the first look.

    Before the end of the first look the default model may be about to be loaded.

    Args:
        models: The models.
        looked: Whether all versions that were found first are loaded, or have failed.
    """
    if models.default_ready:
        return True
    return looked and any(model.serving_version is not None for model in models.models())
