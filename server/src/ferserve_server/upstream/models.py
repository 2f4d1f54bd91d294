"""Presents the models of upstream servers and keeps their state current.

Implements `domain.models.Models`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.domain.errors import FerserveError, UnsupportedError
from ferserve_server.domain.face import FACE_SIDE_PIXELS
from ferserve_server.domain.servable import InputSpec, ModelDescription, ModelSpec, ServableState
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.models.catalog import CatalogSnapshot, ServiceState
from ferserve_server.upstream.leases import UpstreamLease

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.ports import InferenceObserver
    from ferserve_server.domain.servable import ModelStatus, ServableId
    from ferserve_server.domain.upstream import TierAnswer
    from ferserve_server.upstream.leases import ScorerKey, Scorers


_MAX_SEEN: Final = 64
"""Maximum number of versions that answered before they were reported: more than appear between two refreshes."""

_USUAL_INPUT: Final = InputSpec("faces", FACE_SIDE_PIXELS, FACE_SIDE_PIXELS)


class UpstreamModels:
    """Sends faces to the model tier, and tracks its models. Event loop only.

    Args of the constructor:
        scorers: Score the faces.
        observer: Notified of what the tier has.
        on_change: Called when anything here changed.

    Attributes:
        reachable: True if a server of the tier is there and ready. Safe from any thread.
    """

    def __init__(self, scorers: Scorers, observer: InferenceObserver, on_change: Callable[[], None]) -> None:
        self._scorers = scorers
        self._observer = observer
        self._on_change = on_change
        self._catalog: CatalogSnapshot | None = None
        self.reachable = False
        self._states: dict[ServableId, ServableState] = {}
        self._unreported: dict[ServableId, ModelDescription] = {}

    @property
    def default_ready(self) -> bool:
        """Returns whether the tier's default model answers requests that name no version."""
        return self.reachable and self._catalog is not None and self._catalog.state.default_ready

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> UpstreamLease:
        """Takes a lease; the tier chooses the version that scores, see `UpstreamLease`.

        Raises:
            UpstreamUnavailableError: No server of the tier answers.
            FerserveError: By what the tier last reported there is no such version; see `domain.models.Acquire`.
        """
        del once
        if self._catalog is None or not self.reachable:
            raise UpstreamUnavailableError
        servable, description = self._catalog.resolve(spec)
        # By its name, so that requests for the default model share batches with those that name none.
        wanted = ModelSpec(servable.name, spec.version, spec.alias)
        return UpstreamLease(self._scorers, wanted, servable, description, self._describe)

    def models(self) -> tuple[ModelStatus, ...]:
        """Returns every model with its versions, by name, as last reported."""
        return self._catalog.state.models if self._catalog else ()

    def model(self, name: str) -> ModelStatus:
        """Returns one model, as last reported; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
            UpstreamUnavailableError: The tier has not reported its models yet.
        """
        if self._catalog is None:
            raise UpstreamUnavailableError
        return self._catalog.model(name)

    async def refresh(self) -> None:
        """Raises, because changes are made in the tier.

        Raises:
            UnsupportedError: Always; so with the following ones.
        """
        raise self._unsupported()

    async def load(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        raise self._unsupported(name, version)

    async def unload(self, name: str, version: int) -> None:  # noqa: D102 - see `refresh`
        raise self._unsupported(name, version)

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:  # noqa: D102 - see `refresh`
        raise self._unsupported(name, alias, version)

    async def promote(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        raise self._unsupported(name, version)

    async def roll_back(self, name: str, version: int | None = None) -> None:  # noqa: D102 - see `refresh`
        raise self._unsupported(name, version)

    def reached(self, *, reachable: bool) -> None:
        """Records whether a server of the tier is reachable and ready."""
        if reachable != self.reachable:
            self.reachable = reachable
            self._on_change()

    def update_models(self, models: tuple[ModelStatus, ...]) -> None:
        """Records the tier's models."""
        if self._catalog is not None and models == self._catalog.state.models:
            return
        default = next((model for model in models if model.default), None)
        ready = default is not None and default.serving_version is not None
        self._catalog = CatalogSnapshot(ServiceState(default.name if default else "", ready, models))
        self._scorers.keep(self._is_current)
        self._notify_observer(models)
        self._on_change()

    def answered(self, answer: TierAnswer) -> None:
        """Records the version that answered, which the tier may not have reported yet."""
        servable = answer.servable
        if servable in self._unreported or (self._catalog and self._catalog.description(servable)):
            return
        self._unreported[servable] = ModelDescription(answer.labels, _USUAL_INPUT)
        if len(self._unreported) > _MAX_SEEN:
            del self._unreported[next(iter(self._unreported))]

    def _describe(self, servable: ServableId) -> ModelDescription:
        """Returns the description of a version that answered."""
        reported = self._catalog.description(servable) if self._catalog else None
        return reported or self._unreported[servable]

    def _is_current(self, key: ScorerKey) -> bool:
        """Returns whether requests still resolve to the version that their scorer was made for."""
        return self._catalog is not None and self._catalog.resolves_to(key.spec, key.servable)

    def _notify_observer(self, models: tuple[ModelStatus, ...]) -> None:
        states = {version.id: version.state for model in models for version in model.versions}
        for removed in self._states.keys() - states.keys():
            self._observer.state_changed(removed, ServableState.UNLOADED)
        for servable, state in states.items():
            if self._states.get(servable) is not state:
                self._observer.state_changed(servable, state)
        self._states = states
        for model in models:
            self._observer.routed(model.name, model.aliases, model.serving_version)

    @staticmethod
    def _unsupported(*_asked: object) -> UnsupportedError:
        return UnsupportedError("This server runs no models. Send control calls to the servers of the model tier.")


if TYPE_CHECKING:
    from ferserve_server.domain.upstream import ModelTier

log = structlog.get_logger(__name__)


async def follow_tier(tier: ModelTier, models: UpstreamModels, refresh_s: float) -> None:
    """Fetches the tier's models every `refresh_s` seconds, and at once when it is back. Cancel to stop."""
    back = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_watch(tier, models, back))
        group.create_task(_poll_models(tier, models, refresh_s, back))


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


async def _poll_models(tier: ModelTier, models: UpstreamModels, refresh_s: float, back: asyncio.Event) -> None:
    failing = False
    while True:
        back.clear()
        try:
            models.update_models(await tier.models())
            failing = False
        except FerserveError as error:
            if not failing:
                log.warning("model tier does not tell its models", reason=error.reason, text=error.message)
            failing = True
        except Exception:  # the report is malformed: the next one may be correct
            log.exception("model tier tells what cannot be read")
        try:
            await asyncio.wait_for(back.wait(), refresh_s)
        except TimeoutError:
            continue
