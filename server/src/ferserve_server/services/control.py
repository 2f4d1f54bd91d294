"""Implements the calls that change the active versions, and authorises them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.services.codec import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ferserve_server.domain.models import ModelChanges
    from ferserve_server.domain.servable import ModelStatus
    from ferserve_server.services.control_access import ControlAuthorizer, Requester

log = structlog.get_logger(__name__)


class ModelControl:
    """Executes control calls of every interface. Event loop only.

    Every method takes its requester first, raises the errors of `ControlAuthorizer.check`, and returns the
    model as it is afterwards.

    Args of the constructor:
        models: The models.
        authorizer: Authorises the calls.
        rejected: Called with the reason of each call that is not authorised.
    """

    def __init__(
        self, models: ModelChanges, authorizer: ControlAuthorizer, rejected: Callable[[str], None] = lambda _: None
    ) -> None:
        self._models = models
        self._authorizer = authorizer
        self._rejected = rejected
        self._running: set[asyncio.Task[object]] = set()

    async def load(self, requester: Requester, name: str, version: int) -> ModelStatus:
        """Loads a version; see `ModelManager.load`."""
        self._admit(requester, "load", name, version=_version(version))
        return await self._done(name, self._models.load(name, version))

    async def look(self, requester: Requester, name: str) -> ModelStatus:
        """Scans the model folder now, and loads the versions that the policies select.

        Raises:
            ModelNotFoundError: There is no such model afterwards.
            FerserveError: None of its versions is ready; that of the newest one.
        """
        self._admit(requester, "look", name)
        model = await self._done(name, self._models.refresh())
        if model.serving_version is None and model.versions and model.versions[0].failure is not None:
            raise model.versions[0].failure
        return model

    async def unload(self, requester: Requester, name: str, version: int) -> ModelStatus:
        """Unloads a version; see `ModelManager.unload`."""
        self._admit(requester, "unload", name, version=_version(version))
        return await self._done(name, self._models.unload(name, version))

    async def set_alias(self, requester: Requester, name: str, alias: str, version: int | None) -> ModelStatus:
        """Sets an alias, or removes it (None); see `ModelManager.set_alias`."""
        if version is not None:
            _version(version)
        self._admit(requester, "set_alias", name, alias=messages.parse_alias(alias, "alias"), version=version)
        return await self._done(name, self._models.set_alias(name, alias, version))

    async def promote(self, requester: Requester, name: str, version: int) -> ModelStatus:
        """Promotes the canary; version 0 means the current one. See `ModelManager.promote`."""
        wanted = _version(version) if version else None
        self._admit(requester, "promote", name, version=wanted)
        return await self._done(name, self._models.promote(name, wanted))

    async def roll_back(self, requester: Requester, name: str, version: int) -> ModelStatus:
        """Rolls a version back; 0 means the current candidate. See `ModelManager.roll_back`."""
        wanted = _version(version) if version else None
        self._admit(requester, "roll_back", name, version=wanted)
        return await self._done(name, self._models.roll_back(name, wanted))

    def _admit(self, requester: Requester, action: str, name: str, **facts: object) -> None:
        try:
            self._authorizer.check(requester)
        except FerserveError as error:
            self._rejected(error.reason)
            log.warning("control call rejected", action=action, reason=error.reason, requester=requester.name)
            raise
        messages.parse_model_name(name, "name")
        log.info("control call", action=action, model=name, **facts)

    async def _done(self, name: str, work: Coroutine[object, object, None]) -> ModelStatus:
        """Finishes work even if the caller leaves, because half a load would stay so indefinitely."""
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)
        return self._models.model(name)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has the answer, or has left


def _version(version: int) -> int:
    if version < 1:
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"version: {version} is not allowed; use 1 or more.",
            field="version",
            value=version,
        )
    return version
