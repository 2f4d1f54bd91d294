"""Implements loaders of fakes that a test can inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.backends.fake import FakeLoader, FakeServable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import ModelDescription, ServableId


class KeptLoader(FakeLoader):
    """Keeps the servables that it made.

    Attributes:
        servables: All of them, in order.
        before_predict: Called with every batch, on the runner's thread.
    """

    def __init__(self, *, before_predict: Callable[[CropBatch], None] = lambda _: None) -> None:
        super().__init__()
        self.servables: list[FakeServable] = []
        self.before_predict = before_predict

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        del directory
        made = FakeServable(servable_id, description, before_predict=self._before_predict)
        self.servables.append(made)
        return made

    def _before_predict(self, crops: CropBatch) -> None:
        self.before_predict(crops)  # as it is by then

    @property
    def servable(self) -> FakeServable:
        """The one that was made last."""
        return self.servables[-1]
