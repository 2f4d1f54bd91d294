"""One observer that tells several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferserve_server.domain.ports import ExecutedBatch, InferenceObserver
    from ferserve_server.domain.servable import ServableId, ServableState


class InferenceTee:
    """Implements `domain.ports.InferenceObserver`: tells each of `observers`, in order. Event loop only."""

    def __init__(self, *observers: InferenceObserver) -> None:
        self._observers = observers

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Tells of a batch; see `domain.ports.InferenceObserver`."""
        for observer in self._observers:
            observer.batch_executed(batch)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Tells of an execution that raised."""
        for observer in self._observers:
            observer.batch_failed(servable, face_count=face_count)

    def rejected(self, reason: str) -> None:
        """Tells of work that was not taken."""
        for observer in self._observers:
            observer.rejected(reason)

    def cancelled(self, stage: str) -> None:
        """Tells of a caller who left."""
        for observer in self._observers:
            observer.cancelled(stage)

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Tells the state of a version."""
        for observer in self._observers:
            observer.state_changed(servable, state)
