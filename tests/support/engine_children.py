"""Loads fakes in engine processes without TensorFlow (`EngineOptions.loader_module`). Faces carry commands."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription, ServableId
    from ferserve_server.engine.process import EngineOptions

RAISE, CRASH, HANG, SLOW = 201, 202, 203, 204
"""First two pixels of a face that does so."""

CRASHING, RAISING, REJECTED = 13, 14, 15
SLEEPING, LOOPING, ALLOCATING, SHORT_OF_FILES = 16, 17, 18, 19
"""Versions that do so while they are loaded."""


def special_face(what: int) -> np.ndarray:
    """A face that makes its batch do something, uint8 [48, 48]."""
    face = np.zeros((48, 48), np.uint8)
    face[0, :2] = what
    return face


class Loader:
    """Loads fake versions, or fails as its constants above tell."""

    def __init__(self, executor_count: int) -> None:
        self._executor_count = executor_count or 1

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        """See `domain.ports.Loader`."""
        if servable_id.version == CRASHING:
            os.kill(os.getpid(), signal.SIGSEGV)
        if servable_id.version == RAISING:
            raise ArithmeticError("no such weights")
        if servable_id.version == REJECTED:
            raise ModelRejectedError("SIGNATURE_MISMATCH", "There is no output 'x'.", output="x")
        if servable_id.version == SLEEPING:
            time.sleep(3600)
        while servable_id.version == LOOPING:
            pass
        held = []
        while servable_id.version == ALLOCATING:
            held.append(np.ones(16 << 20, np.uint8))
            time.sleep(0.005)
        if servable_id.version == SHORT_OF_FILES and not (directory.parent / "enough").exists():
            raise OSError(24, "Too many open files")
        return FakeServable(servable_id, description, executor_count=self._executor_count, before_predict=_obey)


def _obey(crops: np.ndarray) -> None:
    for what in crops[(crops[:, 0, 0, 0] == crops[:, 0, 1, 0]), 0, 0, 0]:
        if what == RAISE:
            raise ArithmeticError("a face that raises")
        if what == CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        if what == HANG:
            time.sleep(3600)
        if what == SLOW:
            time.sleep(0.3)


def make_loader(options: EngineOptions) -> Loader:
    """See `backends.loading`."""
    return Loader(options.executor_count)


def bring_up(options: EngineOptions) -> None:
    """See `backends.loading`."""
