"""Keeps the right versions loaded and hands out leases on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import (
    AliasFixedError,
    AliasNotFoundError,
    VersionInUseError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.servable import ModelStatus, ServableId
from ferserve_server.models.rollout import Rollout
from ferserve_server.models.routing import Routes
from ferserve_server.models.state_file import LifecycleState
from ferserve_server.models.status_store import StatusStore
from ferserve_server.models.version_loader import VersionLoader
from ferserve_server.models.version_policy import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ferserve_server.domain.ports import FaceScorer, InferenceObserver, RoutingObserver, Servable
    from ferserve_server.domain.servable import ModelSpec, Tuning
    from ferserve_server.models.aliases import Aliases
    from ferserve_server.models.canary.traffic_split import Canaries
    from ferserve_server.models.leases import Lease
    from ferserve_server.models.preparation import VersionPreparer
    from ferserve_server.models.source import RepositorySource
    from ferserve_server.models.state_file import Refusal
    from ferserve_server.models.version_policy import Plan, Policies

log = structlog.get_logger(__name__)


class ModelManager:
    """Loads, publishes, drains and unloads versions, and knows their aliases. Event loop only.

    Implements `domain.models.Models`.
    """

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        source: RepositorySource,
        preparer: VersionPreparer,
        make_scorer: Callable[[Servable, Tuning], FaceScorer],
        *,
        observer: InferenceObserver,
        routing_observer: RoutingObserver,
        default_model: str,
        policies: Policies,
        aliases: Aliases,
        refused: Mapping[ServableId, Refusal] | None = None,
        trials: Canaries | None = None,
        save_state: Callable[[LifecycleState], None] = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes a manager that has nothing loaded yet.

        Args:
            source: Tells which versions there are.
            preparer: Loads and tries them.
            make_scorer: Makes what scores the faces of a version, in the batch sizes of its tuning.
            observer: Is told the state of every version.
            routing_observer: Is told where requests go.
            default_model: Model of requests that name none.
            policies: Which versions are kept.
            aliases: Those in force at first.
            refused: Versions that were rolled back before, and stay out until their manifest changes.
            trials: Where new versions are tried, or None if they are in force at once.
            save_state: Keeps what was decided at run time; called on a thread, may raise OSError.
            on_change: Called when anything here changed.
        """
        self._source = source
        self._default_model = default_model
        self._policies = policies
        self._trials = trials
        self._save_state = save_state
        self._on_change = on_change
        self._book = StatusStore(observer, on_change)
        entrance = {"entrance": trials.entrance} if trials else {}
        self._routes = Routes(
            default_model, aliases, routing_observer, lambda name: bool(self._book.versions(name)), **entrance
        )
        self._fleet = VersionLoader(preparer, make_scorer, self._book, self._routes, refused or {})
        self._rollout = Rollout(self._fleet, trials, self._keep, self._save)
        self._asked_for: set[ServableId] = set()
        self._let_go: set[ServableId] = set()
        self._changing = asyncio.Lock()  # one load at a time, whoever asks
        self._saving = asyncio.Lock()

    @property
    def default_ready(self) -> bool:
        """Whether the default model answers requests that name no version, with a healthy engine."""
        version = self._routes.serving(self._default_model)
        return version is not None and version.scorer.healthy

    def acquire(self, spec: ModelSpec, *, once: bool = False) -> Lease:
        """Takes a lease on the version that `spec` asks for. Use it as a context manager.

        See `domain.models.Acquire`; `once` makes no difference here.

        Raises:
            ModelNotFoundError: No such model.
            VersionNotFoundError: The model has no such version in force.
            AliasNotFoundError: The model has no such alias.
            ModelNotReadyError: The model has no version in force yet.
            VersionNotReadyError: The alias names a version that is not in force.
        """
        del once
        return self._routes.acquire(spec)

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model with its versions, as they stand, by name."""
        return tuple(self._model(name) for name in self._book.names())

    def model(self, name: str) -> ModelStatus:
        """One model as it stands; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        return self._model(self._known(name))

    async def refresh(self) -> None:
        """Brings memory in line with the repository: loads first, then lets go."""
        async with self._changing:
            on_disk = await asyncio.to_thread(self._source.scan)
            for removed in (self._asked_for | self._let_go) - set(on_disk):  # its number may be used again
                self._asked_for.discard(removed)
                self._let_go.discard(removed)
            self._fleet.tell_refusals(on_disk)
            todo, decided = self._plan(on_disk), False
            while todo.load:
                # The model that most requests are for goes first: the server counts as ready with it.
                servable_id = min(todo.load, key=lambda each: each.name != self._default_model)
                await self._load(servable_id, on_disk[servable_id])
                decided = True
                # A version that fails makes the one before it wanted, and changes what may go.
                todo = self._plan(on_disk)
            for servable_id in todo.unload:
                self._fleet.retire(servable_id)
            for servable_id in todo.missing:
                self._book.set_missing(servable_id)
            for servable_id in self._book.forget_gone({*on_disk, *todo.missing}):
                decided |= self._fleet.forget(servable_id)
        if decided and self._trials:
            await self._save()

    async def load(self, name: str, version: int) -> None:
        """Loads a version of a model, "" being the default one, and keeps it whatever the policy says.

        Raises:
            VersionNotFoundError: It is not in the repository.
            FerserveError: It may not be served; the one of `VersionStatus.failure`.
        """
        servable_id = ServableId(name or self._default_model, version)
        async with self._changing:
            on_disk = await asyncio.to_thread(self._source.scan)
            if not self._fleet.is_ready(servable_id):
                if servable_id not in on_disk:
                    raise VersionNotFoundError(servable_id.name, version)
                await self._load(servable_id, on_disk[servable_id])
                await self._save()  # it may have been refused before, or be a canary now
            failure = self._book[servable_id].failure
            if failure is not None:
                raise failure
            self._asked_for.add(servable_id)
            self._let_go.discard(servable_id)

    async def unload(self, name: str, version: int) -> None:
        """Takes a version of a model, "" being the default one, out of service until `load` brings it back.

        It answers what it has taken, then its memory is given back.

        Raises:
            VersionNotFoundError: It is not in force.
            VersionInUseError: An alias names it, or it is the only version of its model in force.
        """
        servable_id = ServableId(name or self._default_model, version)
        if not self._fleet.is_ready(servable_id):
            raise VersionNotFoundError(servable_id.name, version)
        names = [alias for alias, held in self._routes.aliases.of(servable_id.name).items() if held == version]
        if names:
            raise VersionInUseError(servable_id.name, version, f"alias {', '.join(names)} names it")
        if len(self._routes.ready_versions(servable_id.name)) == 1:
            raise VersionInUseError(servable_id.name, version, "no other version of the model is ready")
        self._asked_for.discard(servable_id)
        self._let_go.add(servable_id)
        self._fleet.retire(servable_id)

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Makes an alias of a model, "" being the default one, name a version, or removes it (None).

        It is in force at once; the await is for the file that keeps it.

        Raises:
            ModelNotFoundError: No such model.
            AliasFixedError: The settings hold this alias.
            AliasNotFoundError: There is no such alias to remove.
            VersionNotReadyError: The version is not in force.
        """
        name = self._known(name)
        if self._routes.aliases.is_fixed(name, alias):
            raise AliasFixedError(name, alias)
        known = self._routes.aliases.of(name)
        if version is None and alias not in known:
            raise AliasNotFoundError(name, alias, known)
        if version is not None and not self._fleet.is_ready(ServableId(name, version)):
            raise VersionNotReadyError(name, version, alias)
        self._routes.set_alias(name, alias, version)
        log.info("alias set", model=name, alias=alias, version=version)
        self._on_change()
        await self._save()

    async def promote(self, name: str, version: int | None = None) -> None:
        """Makes the canary of a model, "" being the default one, its stable version; see `Rollout.promote`.

        Raises:
            ModelNotFoundError: No such model.
            NoCanaryError, AliasFixedError, VersionNotReadyError: See there.
        """
        await self._rollout.promote(self._known(name), version)

    async def roll_back(self, name: str, version: int | None = None) -> None:
        """Takes back the canary of a model, "" being the default one, or else what answers; see `Rollout`.

        Raises:
            ModelNotFoundError: No such model.
            NoCanaryError, NoOlderVersionError, AliasFixedError, FerserveError: See there.
        """
        usable = await asyncio.to_thread(self._source.scan)
        await self._rollout.roll_back(self._known(name), version, usable)

    async def judge_canaries(self) -> None:
        """Looks at the figures of every canary, and promotes it or takes it back if they say so."""
        await self._rollout.look()

    async def watch(self, looks: AsyncIterator[None]) -> None:
        """Refreshes at every one of `looks`. Cancel to stop."""
        async for _ in looks:
            try:
                await self.refresh()
            except Exception:
                log.exception("repository not read")

    async def close(self) -> None:
        """Drains and unloads everything."""
        await self._fleet.close()

    async def _load(self, servable_id: ServableId, manifest_time: float) -> None:
        await self._fleet.load(servable_id, manifest_time, lambda: self._rollout.admit(servable_id))

    async def _keep(self, servable_id: ServableId) -> None:
        """Makes sure that a version is ready until an alias names it."""
        await self.load(servable_id.name, servable_id.version)
        self._asked_for.discard(servable_id)

    async def _save(self) -> None:
        async with (
            self._saving
        ):  # what is in force when it is this one's turn, so the last one written is the last
            state = LifecycleState(self._routes.aliases.chosen, dict(self._fleet.refused))
            try:
                await asyncio.to_thread(self._save_state, state)
            except OSError as error:
                log.error("decisions not saved; a restart forgets them", error=str(error))  # noqa: TRY400 - no trace

    def _plan(self, on_disk: Mapping[ServableId, float]) -> Plan:
        held = self._routes.aliases.named() | self._asked_for
        return plan(
            on_disk, self._routes.ready(), self._fleet.failed, self._policies, held=held, shunned=self._let_go
        )

    def _model(self, name: str) -> ModelStatus:
        serving = self._routes.serving(name)
        trial = self._trials.of(name) if self._trials else None
        return ModelStatus(
            name,
            name == self._default_model,
            self._book.versions(name),
            policy=str(self._policies.of(name)),
            aliases=self._routes.aliases.of(name),
            serving_version=serving.id.version if serving else None,
            canary=trial.report() if trial else None,
        )

    def _known(self, name: str) -> str:
        return self._fleet.known(name or self._default_model)
