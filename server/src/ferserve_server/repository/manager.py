"""Keeps the right versions loaded and hands out leases on them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import (
    FerserveError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRejectedError,
    VersionNotFoundError,
)
from ferserve_server.domain.servable import ModelSpec, ModelStatus, ServableId, ServableState, VersionStatus
from ferserve_server.repository.gate import check_golden, warm
from ferserve_server.repository.lease import Lease, LiveVersion
from ferserve_server.repository.manifest import read_manifest, verify_files
from ferserve_server.repository.version_policy import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.ports import FaceScorer, InferenceObserver, Loader, Servable
    from ferserve_server.repository.source import RepositorySource

log = structlog.get_logger(__name__)


class ModelManager:
    """Loads, verifies, warms, publishes, drains and unloads versions. Event loop only; loading is on a thread."""

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        source: RepositorySource,
        loader: Loader,
        make_scorer: Callable[[Servable], FaceScorer],
        *,
        observer: InferenceObserver,
        default_model: str,
        bucket_sizes: Sequence[int],
        golden_tolerance: float,
        versions_per_model: int = 1,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._loader = loader
        self._make_scorer = make_scorer
        self._observer = observer
        self._default_model = default_model
        self._bucket_sizes = tuple(bucket_sizes)
        self._golden_tolerance = golden_tolerance
        self._versions_per_model = versions_per_model
        self._on_change = on_change
        self._live: dict[str, dict[int, LiveVersion]] = {}
        self._status: dict[ServableId, VersionStatus] = {}
        self._failed: dict[ServableId, float] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def default_ready(self) -> bool:
        """Whether the default model answers, with every engine of it healthy."""
        versions = self._live.get(self._default_model, {})
        return bool(versions) and all(version.scorer.healthy for version in versions.values())

    def acquire(self, spec: ModelSpec) -> Lease:
        """Takes a lease on the version that `spec` asks for. Use it as a context manager.

        Raises:
            ModelNotFoundError: No such model.
            VersionNotFoundError: The model has no such version in force.
            ModelNotReadyError: The model has no version in force yet.
        """
        name = spec.name or self._default_model
        versions = self._live.get(name)
        if not versions:
            raise self._absence(name)
        version = versions.get(max(versions) if spec.version is None else spec.version)
        if version is None:
            raise VersionNotFoundError(name, spec.version or 0)
        return version.lease()

    def models(self) -> tuple[ModelStatus, ...]:
        """Every model with its versions, as they stand, by name."""
        names = sorted({servable.name for servable in self._status})
        return tuple(self._model(name) for name in names)

    def model(self, name: str) -> ModelStatus:
        """One model as it stands; "" is the default one.

        Raises:
            ModelNotFoundError: No such model.
        """
        name = name or self._default_model
        if not any(servable.name == name for servable in self._status):
            raise ModelNotFoundError(name)
        return self._model(name)

    async def refresh(self) -> None:
        """Brings memory in line with the repository: loads first, then lets go."""
        on_disk = await asyncio.to_thread(self._source.scan)
        todo = plan(on_disk, self._ready(), self._failed, self._versions_per_model)
        while todo.load:
            await self._load(todo.load[0], on_disk[todo.load[0]])
            # A version that fails makes the one before it wanted, and changes what may go.
            todo = plan(on_disk, self._ready(), self._failed, self._versions_per_model)
        for servable_id in todo.unload:
            self._retire(servable_id)
        for servable_id, status in list(self._status.items()):
            if servable_id not in on_disk and status.state in {ServableState.FAILED, ServableState.UNLOADED}:
                self._failed.pop(servable_id, None)
                self._status.pop(servable_id)

    async def watch(self, poll_interval_s: float) -> None:
        """Refreshes for ever, every `poll_interval_s` seconds. Cancel to stop."""
        while True:
            await asyncio.sleep(poll_interval_s)
            try:
                await self.refresh()
            except Exception:
                log.exception("repository not read")

    async def close(self) -> None:
        """Drains and unloads everything."""
        for servable_id in self._ready():
            self._retire(servable_id)
        while self._retiring:
            await asyncio.gather(*self._retiring)

    async def _load(self, servable_id: ServableId, manifest_time: float) -> None:
        self._set_status(VersionStatus(servable_id, ServableState.LOADING))
        try:
            servable = await asyncio.to_thread(self._prepare, servable_id)
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
            self._set_status(VersionStatus(servable_id, ServableState.FAILED, failure=failure))
            return
        self._failed.pop(servable_id, None)
        version = LiveVersion(servable_id, servable.description, self._make_scorer(servable))
        self._live.setdefault(servable_id.name, {})[servable_id.version] = version
        log.info("version ready", servable=str(servable_id))
        self._set_status(
            VersionStatus(servable_id, ServableState.READY, servable.description, bucket_sizes=self._bucket_sizes)
        )

    def _prepare(self, servable_id: ServableId) -> Servable:
        """Verifies, loads, warms and tries a version. Slow: seconds; runs on a thread."""
        directory = self._source.directory(servable_id)
        manifest = read_manifest(directory)
        if (manifest.name, manifest.version) != (servable_id.name, servable_id.version):
            raise ModelRejectedError(
                "MANIFEST_MISMATCH", f"The manifest is that of {manifest.name}/{manifest.version}."
            )
        verify_files(directory, manifest)
        servable = self._loader.load(servable_id, directory, manifest.description)
        try:
            warm(servable, self._bucket_sizes)
            check_golden(servable, directory, self._bucket_sizes, self._golden_tolerance)
        except BaseException:
            servable.close()
            raise
        return servable

    def _retire(self, servable_id: ServableId) -> None:
        version = self._live[servable_id.name].pop(servable_id.version)
        description = version.description
        self._set_status(VersionStatus(servable_id, ServableState.DRAINING, description))

        async def retire() -> None:
            await version.retire()
            if self._status[servable_id].state is ServableState.DRAINING:  # else it was loaded anew meanwhile
                self._set_status(VersionStatus(servable_id, ServableState.UNLOADED, description))
            log.info("version unloaded", servable=str(servable_id))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _ready(self) -> list[ServableId]:
        return [version.id for versions in self._live.values() for version in versions.values()]

    def _set_status(self, status: VersionStatus) -> None:
        self._status[status.id] = status
        with contextlib.suppress(Exception):
            self._observer.state_changed(status.id, status.state)
        self._on_change()

    def _model(self, name: str) -> ModelStatus:
        versions = [status for servable, status in self._status.items() if servable.name == name]
        versions.sort(key=lambda status: -status.id.version)
        return ModelStatus(name, name == self._default_model, tuple(versions))

    def _absence(self, name: str) -> FerserveError:
        known = any(servable.name == name for servable in self._status)
        # Before the first look at the repository nobody knows; the default model is the one to wait for.
        return ModelNotReadyError(name) if known or name == self._default_model else ModelNotFoundError(name)
