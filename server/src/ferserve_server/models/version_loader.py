"""The versions in memory: how they come into force and how they go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from ferserve_server.domain.errors import FerserveError, ModelNotFoundError, ModelRejectedError
from ferserve_server.domain.servable import ServableState, VersionStatus
from ferserve_server.models.leases import LiveVersion
from ferserve_server.models.state_file import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferserve_server.domain.ports import FaceScorer, Servable
    from ferserve_server.domain.servable import ServableId, Tuning
    from ferserve_server.models.preparation import VersionPreparer
    from ferserve_server.models.routing import Routes
    from ferserve_server.models.status_store import StatusStore

log = structlog.get_logger(__name__)


class VersionLoader:
    """Loads versions, puts them in force, and takes them out again. Event loop only.

    Attributes:
        book: The status of every version.
        routes: The versions in force.
        failed: Versions that could not be loaded or were refused, and their manifests' time then.
        refused: Those of them that were rolled back.
    """

    def __init__(
        self,
        preparer: VersionPreparer,
        make_scorer: Callable[[Servable, Tuning], FaceScorer],
        book: StatusStore,
        routes: Routes,
        refused: Mapping[ServableId, Refusal],
    ) -> None:
        self._preparer = preparer
        self._make_scorer = make_scorer
        self.book = book
        self.routes = routes
        self.refused = dict(refused)
        self.failed = {servable_id: refusal.manifest_time for servable_id, refusal in refused.items()}
        self._manifest_times: dict[ServableId, float] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def load(self, servable_id: ServableId, manifest_time: float, before_ready: Callable[[], None]) -> bool:
        """Loads a version, and returns whether it is ready; the book has the reason if it is not.

        Args:
            servable_id: The version; one load at a time.
            manifest_time: When its manifest changed, in seconds since 1970.
            before_ready: Called when it has passed the validation, before it is in force.
        """
        self.book.set(VersionStatus(servable_id, ServableState.LOADING))
        self.refused.pop(servable_id, None)
        in_force = self.routes.serving(servable_id.name)
        try:
            with in_force.lease() if in_force else contextlib.nullcontext():
                beside = in_force.servable if in_force else None
                prepared = await self._preparer.prepare(servable_id, beside)
        except Exception as error:  # a broken model must not harm the service
            self.failed[servable_id] = manifest_time
            failure = (
                error
                if isinstance(error, FerserveError)
                else ModelRejectedError(
                    "LOAD_FAILED", "The engine could not load it. The server's log tells more."
                )
            )
            log.exception("version refused", servable=str(servable_id), reason=failure.reason)
            self.book.set(VersionStatus(servable_id, ServableState.FAILED, failure=failure))
            return False
        self.failed.pop(servable_id, None)
        self._manifest_times[servable_id] = manifest_time
        before_ready()
        servable, validation, tuning = prepared.servable, prepared.validation, prepared.tuning
        self.routes.add(LiveVersion(servable, self._make_scorer(servable, tuning)))
        log.info(
            "version ready", servable=str(servable_id), precision=tuning.precision.value, validation=validation
        )
        self.book.set(
            VersionStatus(
                servable_id, ServableState.READY, servable.description, validation=validation, tuning=tuning
            )
        )
        return True

    def retire(self, servable_id: ServableId) -> None:
        """Takes a version out of force. It answers what it has taken, then its memory is given back."""
        version = self.routes.remove(servable_id)
        description = version.description
        self.book.set(VersionStatus(servable_id, ServableState.DRAINING, description))

        async def retire() -> None:
            await version.retire()
            if self.book[servable_id].state is ServableState.DRAINING:  # else it was loaded anew meanwhile
                self.book.set(VersionStatus(servable_id, ServableState.UNLOADED, description))
                self._tell_refusal(servable_id)
            log.info("version unloaded", servable=str(servable_id))

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def refuse(self, servable_id: ServableId, reason: str, message: str) -> None:
        """Takes a version out of force, if it is in it, and keeps it out until its manifest changes."""
        manifest_time = self._manifest_times.get(servable_id, self.failed.get(servable_id, 0.0))
        self.refused[servable_id] = Refusal(manifest_time, reason, message)
        self.failed[servable_id] = manifest_time
        if self.is_ready(servable_id):
            self.retire(servable_id)
        else:
            self._tell_refusal(servable_id)

    def tell_refusals(self, on_disk: Mapping[ServableId, float]) -> None:
        """Lists the versions that were rolled back before a restart, once it is known that they are there."""
        listed = {status.id for name in self.book.names() for status in self.book.versions(name)}
        for servable_id in self.refused.keys() & on_disk.keys() - listed:
            self._tell_refusal(servable_id)

    def forget(self, servable_id: ServableId) -> bool:
        """Drops what is known of a version that is gone; returns whether it was refused."""
        self.failed.pop(servable_id, None)
        return self.refused.pop(servable_id, None) is not None

    def is_ready(self, servable_id: ServableId) -> bool:
        """Whether a version is in force."""
        return servable_id.version in self.routes.ready_versions(servable_id.name)

    def is_known(self, name: str) -> bool:
        """Whether there is a model of that name, with or without a version in force."""
        return bool(self.book.versions(name))

    def known(self, name: str) -> str:
        """The name.

        Raises:
            ModelNotFoundError: No such model.
        """
        if not self.is_known(name):
            raise ModelNotFoundError(name)
        return name

    async def close(self) -> None:
        """Drains and unloads everything."""
        for servable_id in self.routes.ready():
            self.retire(servable_id)
        while self._retiring:
            await asyncio.gather(*self._retiring)

    def _tell_refusal(self, servable_id: ServableId) -> None:
        refusal = self.refused.get(servable_id)
        if refusal is not None:
            self.book.set(VersionStatus(servable_id, ServableState.FAILED, failure=refusal.error()))
