"""Implements an engine without a model: deterministic scores after a set time, for load tests and core tests."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision
from ferserve_server.models.golden import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import GoldenSet, ModelDescription, ServableId


def fake_scores(crops: CropBatch, label_count: int) -> Scores:
    """Computes scores from each face's own pixels: the class is the sum of its pixels modulo the classes.

    Args:
        crops: uint8 [N, H, W, 1].
        label_count: Classes, 2 or more.

    Returns:
        float32 [N, label_count]: 0.7 for the class, the rest shared evenly.
    """
    sums = crops.reshape(len(crops), -1).sum(axis=1, dtype=np.int64)
    scores = np.full((len(crops), label_count), 0.3 / (label_count - 1), np.float32)
    scores[np.arange(len(crops)), sums % label_count] = 0.7
    return scores


def fake_answer(crops: CropBatch, description: ModelDescription) -> Scores:
    """Scores crops as an engine does: `fake_scores`, and 1.0 for crops of one grey level as no face.

    Returns:
        float32 [N, `description.score_column_count`].
    """
    scores = fake_scores(crops, len(description.labels))
    if not description.not_a_face_output:
        return scores
    levels = crops.reshape(len(crops), -1)
    return np.column_stack([scores, (levels.max(axis=1) == levels.min(axis=1)).astype(np.float32)])


class FakeServable:
    """Implements `domain.ports.Servable` without a model.

    Args of the constructor:
        batch_s: Duration of each batch, in seconds.
        before_predict: Called with every batch, on the runner's thread; may block or raise.
    """

    def __init__(
        self,
        servable_id: ServableId,
        description: ModelDescription,
        *,
        executor_count: int = 1,
        batch_s: float = 0.0,
        before_predict: Callable[[CropBatch], None] = lambda _: None,
    ) -> None:
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = Precision.FLOAT32
        self.closed = False
        self.batch_sizes: list[int] = []
        self._batch_s = batch_s
        self._before_predict = before_predict
        self._lock = threading.Lock()

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch; see `domain.ports.Servable`."""
        with self._lock:
            self.batch_sizes.append(len(crops))
        self._before_predict(crops)
        if self._batch_s:
            time.sleep(self._batch_s)
        return fake_answer(crops, self.description)

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set of the version."""
        return read_golden(directory, self.description.input)

    def with_precision(self, precision: Precision) -> FakeServable:
        """Does nothing: it computes nothing, so in no other precision either."""
        raise ModelRejectedError("PRECISION_UNSUPPORTED", f"{self.id} cannot compute in {precision.value}.")

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Does nothing: there is nothing to warm."""

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Does nothing: any number of batches may run at once."""

    def close(self) -> None:
        """Records that it was closed."""
        self.closed = True


class FakeLoader:
    """Implements `domain.ports.Loader`; every version becomes a `FakeServable`."""

    def __init__(self, *, executor_count: int = 1, batch_s: float = 0.0) -> None:
        self._executor_count = executor_count
        self._batch_s = batch_s

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:  # noqa: ARG002 - part of the port
        """Makes a servable without looking at the files."""
        return FakeServable(servable_id, description, executor_count=self._executor_count, batch_s=self._batch_s)
