"""Keeps the selected versions loaded and leases them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.control_errors import StateNotSavedError
from ferserve_server.domain.errors import (
    AliasFixedError,
    AliasNotFoundError,
    ModelNotFoundError,
    VersionInUseError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.servable import ModelStatus, ServableId
from ferserve_server.models.failed_loads import VersionStamp
from ferserve_server.models.inventory import Inventory
from ferserve_server.models.rollout import Rollout
from ferserve_server.models.routing import Routes
from ferserve_server.models.state_file import LifecycleState
from ferserve_server.models.status_store import StatusStore
from ferserve_server.models.version_loader import VersionLoader
from ferserve_server.models.version_policy import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ferserve_server.domain.models import Acquire
    from ferserve_server.domain.ports import FaceScorer, InferenceObserver, Servable
    from ferserve_server.domain.servable import Tuning
    from ferserve_server.models.aliases import Aliases
    from ferserve_server.models.canary.traffic_split import Canaries
    from ferserve_server.models.preparation import VersionPreparer
    from ferserve_server.models.source import RepositorySource
    from ferserve_server.models.state_file import Rejection
    from ferserve_server.models.version_policy import Plan, Policies

log = structlog.get_logger(__name__)


class ModelManager:
    """Loads, publishes, drains and unloads versions, and keeps their aliases. Event loop only.

    Implements `domain.models.Models`.

    Attributes:
        acquire: Takes leases; see `Routes.acquire`.
    """

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        source: RepositorySource,
        preparer: VersionPreparer,
        make_scorer: Callable[[Servable, Tuning], FaceScorer],
        *,
        observer: InferenceObserver,
        default_model: str,
        policies: Policies,
        aliases: Aliases,
        rejected: Mapping[ServableId, Rejection] | None = None,
        canaries: Canaries | None = None,
        save_state: Callable[[LifecycleState], None] = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Creates a registry with nothing loaded.

        Args:
            source: Lists the versions on disk.
            preparer: Loads and validates them.
            make_scorer: Makes the scorer of a version, for the batch sizes of its tuning.
            observer: Notified of the state of every version and of the routes of requests.
            default_model: Model of requests that name none.
            policies: Select the versions that are kept.
            aliases: The initial aliases.
            rejected: Versions that were rolled back before, and stay rejected until their manifest changes.
            canaries: Runs new versions as canaries, or None if they become active at once.
            save_state: Saves run-time decisions; called on a thread, may raise OSError.
            on_change: Called when anything here changed.
        """
        self._inventory = Inventory(source)
        self._preparer = preparer
        self._default_model = default_model
        self._policies = policies
        self._canaries = canaries
        self._save_state = save_state
        self._on_change = on_change
        self._statuses = StatusStore(observer, on_change)
        traffic_split = {"traffic_split": canaries.traffic_split} if canaries else {}
        self._routes = Routes(
            default_model, aliases, observer, self._is_known, on_change=on_change, **traffic_split
        )
        self.acquire: Acquire = self._routes.acquire
        self._loader = VersionLoader(preparer, make_scorer, self._statuses, self._routes, rejected or {})
        self._rollout = Rollout(self._loader, canaries, self._keep, self._save, self._save_if_possible)
        self._operator_loaded: set[ServableId] = set()
        self._operator_unloaded: set[ServableId] = set()
        self._changing = asyncio.Lock()  # one load at a time, whatever requested it
        self._saving = asyncio.Lock()

    @property
    def default_ready(self) -> bool:
        """Returns whether the default model answers requests that name no version, with a healthy engine."""
        version = self._routes.serving(self._default_model)
        return version is not None and version.scorer.healthy

    def models(self) -> tuple[ModelStatus, ...]:
        """Returns every model with its versions, by name."""
        return tuple(
            self._model(name) for name in sorted({*self._statuses.names(), *self._inventory.skipped_names()})
        )

    def model(self, name: str) -> ModelStatus:
        """Returns one model; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        return self._model(self._known(name))

    async def refresh(self) -> None:
        """Synchronizes memory with the repository: loads first, then unloads."""
        async with self._changing:
            on_disk = await self._inventory.scan()
            stamps = await self._inventory.files_stamps(self._loader.failed.watched())
            self._loader.failed.update_files(stamps, self._loop.time())
            for removed in (self._operator_loaded | self._operator_unloaded) - set(
                on_disk
            ):  # its number may be used again
                self._operator_loaded.discard(removed)
                self._operator_unloaded.discard(removed)
            self._loader.publish_rejections(on_disk)
            todo, decided = self._plan(on_disk), False
            self._statuses.set_waiting(todo.load)  # all models are known before the first is loaded
            while todo.load:
                # The default model, which most requests use, goes first: the server counts as ready with it.
                servable_id = min(todo.load, key=lambda each: each.name != self._default_model)
                await self._load(servable_id, on_disk[servable_id])
                decided = True
                # A version that fails makes the one before it required, and changes what may be unloaded.
                todo = self._plan(on_disk)
                self._statuses.set_waiting(todo.load)
            for servable_id in todo.unload:
                self._loader.retire(servable_id)
            for servable_id in todo.missing:
                self._statuses.set_missing(servable_id)
            for servable_id in self._statuses.forget_removed({*on_disk, *todo.missing}):
                decided |= self._loader.forget(servable_id)
        if decided and self._canaries:
            await self._save_if_possible()

    async def load(self, name: str, version: int) -> None:
        """Loads a version of a model, "" being the default one, and keeps it whatever the policy selects.

        Raises:
            VersionNotFoundError: It is not in the repository.
            StateNotSavedError: It is ready, and a restart forgets that.
            FerserveError: It may not be served; the one of `VersionStatus.failure`.
        """
        servable_id = ServableId(name or self._default_model, version)
        async with self._changing:
            on_disk = await self._inventory.scan()
            loaded = not self._loader.is_ready(servable_id)
            if loaded:
                if servable_id not in on_disk:
                    raise VersionNotFoundError(servable_id.name, version)
                await self._load(servable_id, on_disk[servable_id])
            failure = self._statuses[servable_id].failure
            if failure is None:
                self._operator_loaded.add(servable_id)
                self._operator_unloaded.discard(servable_id)
            if loaded:
                await self._save()  # it may have been rejected before, or be a canary now
            if failure is not None:
                raise failure

    async def unload(self, name: str, version: int) -> None:
        """Unloads a version of a model, "" being the default one, until `load` loads it again.

        It answers accepted requests, then its memory is freed.

        Raises:
            VersionNotFoundError: It is not active.
            VersionInUseError: An alias names it, or it is the only active version of its model.
        """
        servable_id = ServableId(name or self._default_model, version)
        if not self._loader.is_ready(servable_id):
            raise VersionNotFoundError(servable_id.name, version)
        names = [alias for alias, held in self._routes.aliases.of(servable_id.name).items() if held == version]
        if names:
            raise VersionInUseError(servable_id.name, version, f"alias {', '.join(names)} names it")
        if len(self._routes.ready_versions(servable_id.name)) == 1:
            raise VersionInUseError(servable_id.name, version, "no other version of the model is ready")
        self._operator_loaded.discard(servable_id)
        self._operator_unloaded.add(servable_id)
        self._loader.retire(servable_id)

    async def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Points an alias of a model, "" being the default one, to a version, or removes it (None).

        It takes effect at once; the await is for the state file.

        Raises:
            ModelNotFoundError: No such model.
            AliasFixedError: The settings define this alias.
            AliasNotFoundError: There is no such alias to remove.
            VersionNotReadyError: The version is not active.
            StateNotSavedError: The state file cannot be written; the alias is unchanged.
        """
        name = self._known(name)
        if self._routes.aliases.is_fixed(name, alias):
            raise AliasFixedError(name, alias)
        known = self._routes.aliases.of(name)
        if version is None and alias not in known:
            raise AliasNotFoundError(name, alias, known)
        if version is not None and not self._loader.is_ready(ServableId(name, version)):
            raise VersionNotReadyError(name, version, alias)
        self._routes.set_alias(name, alias, version)
        self._on_change()
        try:
            await self._save()
        except StateNotSavedError:
            self._routes.set_alias(name, alias, known.get(alias))
            self._on_change()
            raise
        log.info("alias set", model=name, alias=alias, version=version)

    async def promote(self, name: str, version: int | None = None) -> None:
        """Promotes the canary of a model, "" being the default one, to stable; see `Rollout.promote`.

        Raises:
            ModelNotFoundError: No such model.
            NoCanaryError, AliasFixedError, VersionNotReadyError, StateNotSavedError: See there.
        """
        await self._rollout.promote(self._known(name), version)

    async def roll_back(self, name: str, version: int | None = None) -> None:
        """Rolls back the canary of a model, "" being the default one, or else the active version; see `Rollout`.

        Raises:
            ModelNotFoundError: No such model.
            NoCanaryError, NoOlderVersionError, AliasFixedError, FerserveError: See there.
        """
        usable = await self._inventory.scan()
        await self._rollout.roll_back(self._known(name), version, usable, self._loop.time())

    async def judge_canaries(self) -> None:
        """Judges every canary, and promotes or rolls it back according to the verdict."""
        await self._rollout.judge()

    def stop_loading(self) -> None:
        """Ends the running load, and all later ones, at the next checkpoint."""
        self._preparer.stop()

    async def watch(self, ticks: AsyncIterator[None]) -> None:
        """Refreshes at every one of `ticks`. Cancel to stop; the caller supervises it."""
        async for _ in ticks:
            await self.refresh()

    async def close(self) -> None:
        """Drains and unloads everything."""
        await self._loader.close()

    async def _load(self, servable_id: ServableId, manifest_sum: str) -> None:
        files = (await self._inventory.files_stamps([servable_id]))[servable_id]
        stamp = VersionStamp(manifest_sum, files)
        await self._loader.load(servable_id, stamp, lambda: self._rollout.admit(servable_id))

    async def _keep(self, servable_id: ServableId) -> None:
        """Loads a version if necessary and keeps it ready until an alias names it."""
        await self.load(servable_id.name, servable_id.version)
        self._operator_loaded.discard(servable_id)

    async def _save(self) -> None:
        """Saves the state in order of request, so that the last state written is the newest.

        Raises:
            StateNotSavedError: The file cannot be written.
        """
        async with self._saving:
            state = LifecycleState(self._routes.aliases.chosen, dict(self._loader.rejected))
            try:
                await asyncio.to_thread(self._save_state, state)
            except OSError as error:
                log.error("decisions not saved; a restart forgets them", error=str(error))  # noqa: TRY400 - no trace
                raise StateNotSavedError(error.strerror or str(error)) from error

    async def _save_if_possible(self) -> None:
        """Saves decisions without a waiting client; a failure is logged."""
        with contextlib.suppress(StateNotSavedError):
            await self._save()

    def _plan(self, on_disk: Mapping[ServableId, str]) -> Plan:
        held = self._routes.aliases.named() | self._operator_loaded
        failed = self._loader.failed.waiting(on_disk, self._loop.time())
        return plan(
            on_disk, self._routes.ready(), failed, self._policies, held=held, excluded=self._operator_unloaded
        )

    def _model(self, name: str) -> ModelStatus:
        serving = self._routes.serving(name)
        run = self._canaries.of(name) if self._canaries else None
        return ModelStatus(
            name,
            name == self._default_model,
            self._statuses.versions(name),
            policy=str(self._policies.of(name)),
            aliases=self._routes.aliases.of(name),
            serving_version=serving.id.version if serving else None,
            canary=run.report() if run else None,
            skipped=self._inventory.skipped_of(name),
        )

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _is_known(self, name: str) -> bool:
        return bool(self._statuses.versions(name))

    def _known(self, name: str) -> str:
        """Returns the name, or that of the default model.

        Raises:
            ModelNotFoundError: No such model.
        """
        name = name or self._default_model
        if not self._is_known(name) and not self._inventory.skipped_of(name):
            raise ModelNotFoundError(name)
        return name
