"""Stores the state of every version, as reported to clients and metrics."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ServableState, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ferserve_server.domain.ports import InferenceObserver
    from ferserve_server.domain.servable import ServableId


class StatusStore:
    """Stores the status of every known version. Event loop only."""

    def __init__(self, observer: InferenceObserver, on_change: Callable[[], None]) -> None:
        self._observer = observer
        self._on_change = on_change
        self._status: dict[ServableId, VersionStatus] = {}

    def __getitem__(self, servable_id: ServableId) -> VersionStatus:
        """Returns the status of a known version."""
        return self._status[servable_id]

    def set(self, status: VersionStatus) -> None:
        """Sets a version's status and notifies the observer."""
        self._status[status.id] = status
        self._notify(status.id, status.state)

    def set_missing(self, servable_id: ServableId) -> None:
        """Records that a version is required and missing."""
        status = self._status.get(servable_id)
        if status is None or status.state is not ServableState.FAILED:
            failure = ModelRejectedError(
                "VERSION_MISSING",
                "It is named by the setting version_policy or by an alias, and is not in the model folder.",
            )
            self.set(VersionStatus(servable_id, ServableState.FAILED, failure=failure))

    def set_waiting(self, wanted: Collection[ServableId]) -> None:
        """Records the versions that await loading, and drops those that no longer do."""
        for servable_id in wanted:
            status = self._status.get(servable_id)
            if status is None or status.state is ServableState.UNLOADED:
                self.set(VersionStatus(servable_id, ServableState.WAITING))
        waiting = [each for each, status in self._status.items() if status.state is ServableState.WAITING]
        for servable_id in waiting:
            if servable_id not in wanted:
                del self._status[servable_id]
                self._notify(servable_id, ServableState.UNLOADED)

    def forget_removed(self, present: Collection[ServableId]) -> list[ServableId]:
        """Drops versions that are neither in memory nor in `present`, and returns them."""
        removed = [
            servable_id
            for servable_id, status in self._status.items()
            if servable_id not in present
            and status.state in {ServableState.WAITING, ServableState.FAILED, ServableState.UNLOADED}
        ]
        for servable_id in removed:
            state = self._status.pop(servable_id).state
            if state is not ServableState.UNLOADED:
                self._notify(servable_id, ServableState.UNLOADED)  # so that no failure is shown indefinitely
        return removed

    def names(self) -> list[str]:
        """Returns the models, sorted."""
        return sorted({servable_id.name for servable_id in self._status})

    def versions(self, model: str) -> tuple[VersionStatus, ...]:
        """Returns the versions of a model, newest first; none if it is not known."""
        found = [status for servable_id, status in self._status.items() if servable_id.name == model]
        return tuple(sorted(found, key=lambda status: -status.id.version))

    def _notify(self, servable_id: ServableId, state: ServableState) -> None:
        with contextlib.suppress(Exception):
            self._observer.state_changed(servable_id, state)
        self._on_change()
