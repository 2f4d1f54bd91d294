"""Keeps the right versions loaded and hands out leases on them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import (
    AliasFixedError,
    AliasNotFoundError,
    FerserveError,
    ModelNotFoundError,
    ModelRejectedError,
    VersionInUseError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.servable import ModelStatus, ServableId, ServableState, VersionStatus
from ferserve_server.repository.lease import LiveVersion
from ferserve_server.repository.routes import Routes
from ferserve_server.repository.status_book import StatusBook
from ferserve_server.repository.version_policy import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ferserve_server.domain.ports import FaceScorer, InferenceObserver, RoutingObserver, Servable
    from ferserve_server.domain.servable import ModelSpec, Tuning
    from ferserve_server.repository.aliases import Aliases
    from ferserve_server.repository.lease import Lease
    from ferserve_server.repository.preparation import VersionPreparer
    from ferserve_server.repository.source import RepositorySource
    from ferserve_server.repository.version_policy import Plan, Policies

log = structlog.get_logger(__name__)


class ModelManager:
    """Loads, publishes, drains and unloads versions, and knows their aliases. Event loop only."""

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
        save_aliases: Callable[[Mapping[str, Mapping[str, int]]], None] = lambda _: None,
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
            save_aliases: Keeps those that were set at run time; called on a thread, may raise OSError.
            on_change: Called when anything here changed.
        """
        self._source = source
        self._preparer = preparer
        self._make_scorer = make_scorer
        self._default_model = default_model
        self._policies = policies
        self._save_aliases = save_aliases
        self._on_change = on_change
        self._book = StatusBook(observer, on_change)
        self._routes = Routes(default_model, aliases, routing_observer, self._is_known)
        self._failed: dict[ServableId, float] = {}
        self._asked_for: set[ServableId] = set()
        self._let_go: set[ServableId] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()  # one load at a time, whoever asks
        self._saving = asyncio.Lock()

    @property
    def default_ready(self) -> bool:
        """Whether the default model answers requests that name no version, with a healthy engine."""
        version = self._routes.serving(self._default_model)
        return version is not None and version.scorer.healthy

    def acquire(self, spec: ModelSpec) -> Lease:
        """Takes a lease on the version that `spec` asks for. Use it as a context manager.

        Raises:
            ModelNotFoundError: No such model.
            VersionNotFoundError: The model has no such version in force.
            AliasNotFoundError: The model has no such alias.
            ModelNotReadyError: The model has no version in force yet.
            VersionNotReadyError: The alias names a version that is not in force.
        """
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
            todo = self._plan(on_disk)
            while todo.load:
                await self._load(todo.load[0], on_disk[todo.load[0]])
                # A version that fails makes the one before it wanted, and changes what may go.
                todo = self._plan(on_disk)
            for servable_id in todo.unload:
                self._retire(servable_id)
            for servable_id in todo.missing:
                self._book.set_missing(servable_id)
            for servable_id in self._book.forget_gone({*on_disk, *todo.missing}):
                self._failed.pop(servable_id, None)

    async def load(self, name: str, version: int) -> None:
        """Loads a version of a model, "" being the default one, and keeps it whatever the policy says.

        Raises:
            VersionNotFoundError: It is not in the repository.
            FerserveError: It may not be served; the one of `VersionStatus.failure`.
        """
        servable_id = ServableId(name or self._default_model, version)
        async with self._changing:
            on_disk = await asyncio.to_thread(self._source.scan)
            if not self._is_ready(servable_id):
                if servable_id not in on_disk:
                    raise VersionNotFoundError(servable_id.name, version)
                await self._load(servable_id, on_disk[servable_id])
            failure = self._book[servable_id].failure
            if failure is not None:
                raise failure
            self._asked_for.add(servable_id)
            self._let_go.discard(servable_id)

    def unload(self, name: str, version: int) -> None:
        """Takes a version of a model, "" being the default one, out of service until `load` brings it back.

        It answers what it has taken, then its memory is given back.

        Raises:
            VersionNotFoundError: It is not in force.
            VersionInUseError: An alias names it, or it is the only version of its model in force.
        """
        servable_id = ServableId(name or self._default_model, version)
        if not self._is_ready(servable_id):
            raise VersionNotFoundError(servable_id.name, version)
        names = [alias for alias, held in self._routes.aliases.of(servable_id.name).items() if held == version]
        if names:
            raise VersionInUseError(servable_id.name, version, f"alias {', '.join(names)} names it")
        if len(self._routes.ready_versions(servable_id.name)) == 1:
            raise VersionInUseError(servable_id.name, version, "no other version of the model is ready")
        self._asked_for.discard(servable_id)
        self._let_go.add(servable_id)
        self._retire(servable_id)

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
        if version is not None and not self._is_ready(ServableId(name, version)):
            raise VersionNotReadyError(name, version, alias)
        self._routes.set_alias(name, alias, version)
        log.info("alias set", model=name, alias=alias, version=version)
        self._on_change()
        async with (
            self._saving
        ):  # what is in force when it is this one's turn, so the last one written is the last
            try:
                await asyncio.to_thread(self._save_aliases, self._routes.aliases.chosen)
            except OSError as error:
                log.error("aliases not saved; a restart forgets them", error=str(error))  # noqa: TRY400 - no trace

    async def watch(self, looks: AsyncIterator[None]) -> None:
        """Refreshes at every one of `looks`. Cancel to stop."""
        async for _ in looks:
            try:
                await self.refresh()
            except Exception:
                log.exception("repository not read")

    async def close(self) -> None:
        """Drains and unloads everything."""
        for servable_id in self._routes.ready():
            self._retire(servable_id)
        while self._retiring:
            await asyncio.gather(*self._retiring)

    async def _load(self, servable_id: ServableId, manifest_time: float) -> None:
        self._book.set(VersionStatus(servable_id, ServableState.LOADING))
        in_force = self._routes.serving(servable_id.name)
        try:
            with in_force.lease() if in_force else contextlib.nullcontext():
                beside = in_force.servable if in_force else None
                prepared = await self._preparer.prepare(servable_id, beside)
        except Exception as error:  # a broken model must not harm the service
            self._failed[servable_id] = manifest_time
            failure = (
                error
                if isinstance(error, FerserveError)
                else ModelRejectedError(
                    "LOAD_FAILED", "The engine could not load it. The server's log tells more."
                )
            )
            log.exception("version refused", servable=str(servable_id), reason=failure.reason)
            self._book.set(VersionStatus(servable_id, ServableState.FAILED, failure=failure))
            return
        self._failed.pop(servable_id, None)
        servable, gate, tuning = prepared.servable, prepared.gate, prepared.tuning
        self._routes.add(LiveVersion(servable, self._make_scorer(servable, tuning)))
        log.info("version ready", servable=str(servable_id), precision=tuning.precision.value, gate=gate)
        self._book.set(
            VersionStatus(servable_id, ServableState.READY, servable.description, gate=gate, tuning=tuning)
        )

    def _retire(self, servable_id: ServableId) -> None:
        version = self._routes.remove(servable_id)
        description = version.description
        self._book.set(VersionStatus(servable_id, ServableState.DRAINING, description))

        async def retire() -> None:
            await version.retire()
            if self._book[servable_id].state is ServableState.DRAINING:  # else it was loaded anew meanwhile
                self._book.set(VersionStatus(servable_id, ServableState.UNLOADED, description))
            log.info("version unloaded", servable=str(servable_id))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _plan(self, on_disk: Mapping[ServableId, float]) -> Plan:
        held = self._routes.aliases.named() | self._asked_for
        return plan(on_disk, self._routes.ready(), self._failed, self._policies, held=held, shunned=self._let_go)

    def _model(self, name: str) -> ModelStatus:
        serving = self._routes.serving(name)
        return ModelStatus(
            name,
            name == self._default_model,
            self._book.versions(name),
            policy=str(self._policies.of(name)),
            aliases=self._routes.aliases.of(name),
            serving_version=serving.id.version if serving else None,
        )

    def _known(self, name: str) -> str:
        name = name or self._default_model
        if not self._is_known(name):
            raise ModelNotFoundError(name)
        return name

    def _is_known(self, name: str) -> bool:
        return bool(self._book.versions(name))

    def _is_ready(self, servable_id: ServableId) -> bool:
        return servable_id.version in self._routes.ready_versions(servable_id.name)
