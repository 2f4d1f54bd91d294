"""A version that runs in an engine process, in the place of one that runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.backends.engine.engine import Engine
    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import GoldenSet, Precision


class EngineServable:
    """Implements `domain.ports.Servable` on an engine process; see there for the methods, all of which block.

    `predict` is for trials: it runs beside the batches of callers, which go through `runner.EngineRunner`, and
    leaves the processor to them.

    Attributes:
        engine: What runs it.
        handle: Its number there.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        handle: int = 0,
        executor_count: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.engine = engine
        self.handle = handle
        self.id = engine.version.id
        self.description = engine.version.description
        self.executor_count = engine.executor_count if executor_count is None else executor_count
        self.precision = precision or engine.version.description.precision
        self._closed = False

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch.

        Raises:
            EngineLostError: Its process ended while it answers callers, and did not come back.
            ModelRejectedError: ENGINE_LOST, the process ended before it answered any.
            EngineRaisedError: What the engine raised.
        """
        return self.engine.predict(self.handle, crops)

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set in the engine process: this one unpacks nothing."""
        return self.engine.read_golden(directory)

    def recast(self, precision: Precision) -> EngineServable:
        """Makes the same version in another precision, in the same process."""
        handle, executor_count = self.engine.recast(self.handle, precision)
        return EngineServable(self.engine, handle=handle, executor_count=executor_count, precision=precision)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Makes all executors warm."""
        self.engine.warm_executors(self.handle, bucket_sizes, thread_count)

    def add_spare(self, bucket_sizes: Sequence[int]) -> None:
        """Makes ready for one `predict` beside the executors."""
        self.engine.add_spare(self.handle, bucket_sizes)

    def close(self) -> None:
        """Gives its memory back: with the last servable of an engine its process ends."""
        if not self._closed:
            self._closed = True
            self.engine.close_handle(self.handle)
