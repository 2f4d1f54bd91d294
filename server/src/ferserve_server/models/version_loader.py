"""Loads and unloads versions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import FerserveError, ModelRejectedError
from ferserve_server.domain.servable import ServableState, VersionStatus
from ferserve_server.models.failed_loads import FailedLoads, is_transient
from ferserve_server.models.leases import LiveVersion
from ferserve_server.models.state_file import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferserve_server.domain.ports import FaceScorer, Servable
    from ferserve_server.domain.servable import ServableId, Tuning
    from ferserve_server.models.failed_loads import VersionStamp
    from ferserve_server.models.preparation import PreparedVersion, VersionPreparer
    from ferserve_server.models.routing import Routes
    from ferserve_server.models.status_store import StatusStore

log = structlog.get_logger(__name__)


class VersionLoader:
    """Loads, activates and deactivates versions. Event loop only.

    Attributes:
        statuses: The status of every version.
        routes: The versions active.
        failed: Versions that could not be loaded or were rejected.
        rejected: Those of them that were rolled back.
    """

    def __init__(
        self,
        preparer: VersionPreparer,
        make_scorer: Callable[[Servable, Tuning], FaceScorer],
        statuses: StatusStore,
        routes: Routes,
        rejected: Mapping[ServableId, Rejection],
    ) -> None:
        self._preparer = preparer
        self._make_scorer = make_scorer
        self.statuses = statuses
        self.routes = routes
        self.rejected = dict(rejected)
        self.failed = FailedLoads()
        for servable_id, rejection in rejected.items():
            self.failed.reject(servable_id, rejection.manifest_sum)
        self._manifest_sums: dict[ServableId, str] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def load(self, servable_id: ServableId, stamp: VersionStamp, before_ready: Callable[[], None]) -> bool:
        """Loads a version, and returns whether it is ready; the status store has the reason if it is not.

        Args:
            servable_id: The version; one load at a time.
            stamp: State of its files, from before they are read.
            before_ready: Called when it has passed the validation, before it is active.
        """
        self.statuses.set(VersionStatus(servable_id, ServableState.LOADING))
        self.rejected.pop(servable_id, None)
        active = self.routes.serving(servable_id.name)
        try:
            with active.lease() if active else contextlib.nullcontext():
                active_servable = active.servable if active else None
                prepared = await self._preparer.prepare(servable_id, active_servable)
            await self._activate(prepared, before_ready)
        except Exception as error:  # noqa: BLE001 - a broken model must not harm the service
            self._record_failure(servable_id, stamp, error)
            return False
        self.failed.forget(servable_id)
        self._manifest_sums[servable_id] = stamp.manifest_sum
        validation, tuning = prepared.validation, prepared.tuning
        log.info(
            "version ready", servable=str(servable_id), precision=tuning.precision.value, validation=validation
        )
        description = prepared.servable.description
        self.statuses.set(
            VersionStatus(servable_id, ServableState.READY, description, validation=validation, tuning=tuning)
        )
        return True

    async def _activate(self, prepared: PreparedVersion, before_ready: Callable[[], None]) -> None:
        """Makes a scorer and activates the version; closes what was made if any of that fails."""
        servable, scorer = prepared.servable, None
        try:
            before_ready()
            scorer = self._make_scorer(servable, prepared.tuning)
            self.routes.add(LiveVersion(servable, scorer))
        except BaseException:
            if self.is_ready(servable.id):
                self.routes.remove(servable.id)
            if scorer is not None:
                await scorer.close()
            else:
                await asyncio.to_thread(servable.close)
            raise

    def _record_failure(self, servable_id: ServableId, stamp: VersionStamp, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        retry_s = self.failed.add(servable_id, stamp, now, transient=is_transient(error))
        failure = error if isinstance(error, FerserveError) else _load_failed(error, retry_s)
        log.error(
            "version rejected",
            servable=str(servable_id),
            reason=failure.reason,
            next_try_in_s=retry_s,
            exc_info=error,
        )
        self.statuses.set(VersionStatus(servable_id, ServableState.FAILED, failure=failure))

    def retire(self, servable_id: ServableId) -> None:
        """Deactivates a version. It answers accepted requests, then its memory is freed."""
        version = self.routes.remove(servable_id)
        description = version.description
        self.statuses.set(VersionStatus(servable_id, ServableState.DRAINING, description))

        async def retire() -> None:
            try:
                await version.retire()
            except Exception:
                log.exception("version not unloaded in good order", servable=str(servable_id))
            if self.statuses[servable_id].state is ServableState.DRAINING:  # else it was loaded again meanwhile
                self.statuses.set(VersionStatus(servable_id, ServableState.UNLOADED, description))
                self._publish_rejection(servable_id)
            log.info("version unloaded", servable=str(servable_id))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def reject(self, servable_id: ServableId, reason: str, message: str) -> None:
        """Deactivates a version, if it is active, and rejects it until its manifest changes."""
        manifest_sum = self._manifest_sums.get(servable_id) or self.failed.manifest_sum(servable_id) or ""
        self.rejected[servable_id] = Rejection(manifest_sum, reason, message)
        self.failed.reject(servable_id, manifest_sum)
        if self.is_ready(servable_id):
            self.retire(servable_id)
        else:
            self._publish_rejection(servable_id)

    def publish_rejections(self, on_disk: Mapping[ServableId, str]) -> None:
        """Lists the versions that were rolled back before a restart, once they are known to exist."""
        listed = {status.id for name in self.statuses.names() for status in self.statuses.versions(name)}
        for servable_id in self.rejected.keys() & on_disk.keys() - listed:
            self._publish_rejection(servable_id)

    def forget(self, servable_id: ServableId) -> bool:
        """Drops the record of a removed version; returns whether it was rejected."""
        self.failed.forget(servable_id)
        return self.rejected.pop(servable_id, None) is not None

    def is_ready(self, servable_id: ServableId) -> bool:
        """Returns whether a version is active."""
        return servable_id.version in self.routes.ready_versions(servable_id.name)

    async def close(self) -> None:
        """Drains and unloads everything."""
        for servable_id in self.routes.ready():
            self.retire(servable_id)
        while self._retiring:
            await asyncio.gather(*self._retiring)

    def _publish_rejection(self, servable_id: ServableId) -> None:
        rejection = self.rejected.get(servable_id)
        if rejection is not None:
            self.statuses.set(VersionStatus(servable_id, ServableState.FAILED, failure=rejection.error()))


def _load_failed(error: Exception, retry_s: float | None) -> ModelRejectedError:
    text = "The engine could not load it. The server's log tells more."
    if isinstance(error, OSError) and error.strerror:
        text = f"It could not be loaded: {error.strerror}."
    if retry_s is not None:
        text += f" It is tried again in {retry_s:g} s."
    return ModelRejectedError("LOAD_FAILED", text)
