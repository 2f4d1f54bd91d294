"""A version on the sessions of some engine, one session for each batch that runs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId


def _nothing() -> None:
    """Where memory goes with the last reference to it."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one batch runs in; never two at once.

    Attributes:
        run: From uint8 [N, H, W, 1] to calibrated probabilities, float32 [N, K], which are the caller's to keep.
        close: Gives its memory back.
    """

    run: Callable[[CropBatch], Scores]
    close: Callable[[], None] = _nothing


class SessionServable:
    """Implements `domain.ports.Servable`; see there for what its methods promise."""

    def __init__(
        self,
        servable_id: ServableId,
        description: ModelDescription,
        open_session: Callable[[Precision], Session],
        *,
        executor_count: int,
        precision: Precision | None = None,
    ) -> None:
        """Opens the first session and runs it once, since first runs optimise the graph.

        Args:
            servable_id: Which version it is.
            description: What its manifest says.
            open_session: Opens one more, on any thread; raises `precision_unsupported` where that is so.
            executor_count: Batches that run at once.
            precision: What it computes in; None for what it was published in.
        """
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = precision or description.precision
        self._open_session = open_session
        self._sessions: list[Session] = []
        # The one used last is taken first: its weights are still in the caches. Appending and popping are atomic.
        self._idle = [self._new_session()]

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch."""
        try:
            session = self._idle.pop()
        except IndexError:  # a run that hangs keeps its session; the thread in its place needs another
            session = self._new_session()
        try:
            return session.run(crops)
        finally:
            self._idle.append(session)

    def recast(self, precision: Precision) -> SessionServable:
        """Makes the same version in another precision."""
        if self.description.precision is Precision.INT8:
            raise precision_unsupported("The version was published in int8.")
        return SessionServable(
            self.id,
            self.description,
            self._open_session,
            executor_count=self.executor_count,
            precision=precision,
        )

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Opens and warms the sessions of all executors."""
        warm, missing = list(self._idle), self.executor_count - len(self._idle)
        with ThreadPoolExecutor(thread_count) as threads:
            warm += threads.map(lambda _: self._new_session(bucket_sizes), range(missing))
        self._idle = warm

    def add_spare(self, bucket_sizes: Sequence[int]) -> None:
        """Opens and warms one session more."""
        if len(self._sessions) > self.executor_count:
            return
        # Taken last: the others have been used more lately.
        self._idle.insert(0, self._new_session(bucket_sizes))

    def close(self) -> None:
        """Gives the sessions' memory back."""
        self._idle.clear()
        for session in self._sessions:
            session.close()
        self._sessions.clear()

    def _new_session(self, bucket_sizes: Sequence[int] = ()) -> Session:
        session = self._open_session(self.precision)
        self._sessions.append(session)
        for size in (1, *bucket_sizes):
            spec = self.description.input
            session.run(np.zeros((size, spec.height, spec.width, 1), np.uint8))
        return session


def precision_unsupported(why: str) -> ModelRejectedError:
    """The refusal of a precision that is not to be had here."""
    return ModelRejectedError(
        "PRECISION_UNSUPPORTED", f"{why} Use --precision auto or float32.", precision=Precision.BFLOAT16.value
    )
