"""A version that other servers run, as the batcher sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ferserve_server.domain.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import ModelDescription, Precision, ServableId


class UpstreamServable:
    """Implements `domain.ports.Servable` as far as there is anything of it here: who it is, and what it takes.

    Batches go through `runner.UpstreamRunner`. `executor_count` is how many may be under way at once.
    """

    def __init__(self, servable_id: ServableId, description: ModelDescription, executor_count: int) -> None:
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = description.precision

    def predict(self, crops: CropBatch) -> NoReturn:
        """Not here.

        Raises:
            UnsupportedError: Always; so with the methods below that return something.
        """
        raise self._elsewhere(crops)

    def read_golden(self, directory: Path) -> NoReturn:  # noqa: D102 - see `predict`
        raise self._elsewhere(directory)

    def recast(self, precision: Precision) -> NoReturn:  # noqa: D102 - see `predict`
        raise self._elsewhere(precision)

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Nothing to warm."""

    def add_spare(self, bucket_sizes: Sequence[int]) -> None:
        """Nothing to make ready."""

    def close(self) -> None:
        """Nothing to give back."""

    def _elsewhere(self, *_asked: object) -> UnsupportedError:
        return UnsupportedError(f"{self.id} runs in the model tier, not in this server.")
