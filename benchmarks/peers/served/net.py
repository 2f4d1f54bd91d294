"""Loads the net that every peer serves: the bundled fer-nano on ferserve's engine, in the peer's process.

Runs in each peer's environment, with server/src on its path. The version's folder is in FERSERVE_BENCH_MODEL.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.backends.processor import multiplies_bfloat16, read_cpuinfo
from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.domain.servable import Precision, ServableId
from ferserve_server.models.manifest import read_manifest
from ferserve_server.scheduler.settings import BUCKET_SIZES

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 48


class Net:
    """Runs one executor with one TensorFlow thread; bfloat16 where the processor multiplies it, as in ferserve.

    Thread-safe: one batch at a time, since a session must not be shared.
    """

    def __init__(self) -> None:
        folder = Path(os.environ["FERSERVE_BENCH_MODEL"])
        manifest = read_manifest(folder)
        loader = SavedModelLoader(executor_count=1, intra_op_thread_count=1, gpu_memory_limit_mib=0)
        servable = loader.load(ServableId(manifest.name, manifest.version), folder, manifest.description)
        if multiplies_bfloat16(read_cpuinfo()):
            servable = servable.with_precision(Precision.BFLOAT16)
        self._servable = servable
        self._lock = threading.Lock()
        for size in BUCKET_SIZES:
            servable.predict(np.zeros((size, SIDE, SIDE, 1), np.uint8))

    def __call__(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores faces, padded to a warmed batch size.

        Args:
            faces: uint8 [N, 48, 48, 1], N of 1 or more.

        Returns:
            Probabilities, float32 [N, 7].
        """
        rows = []
        for start in range(0, len(faces), BUCKET_SIZES[-1]):
            part = faces[start : start + BUCKET_SIZES[-1]]
            size = next(each for each in BUCKET_SIZES if each >= len(part))
            batch = np.zeros((size, SIDE, SIDE, 1), np.uint8)
            batch[: len(part)] = part
            with self._lock:
                rows.append(self._servable.predict(batch)[: len(part)])
        return np.concatenate(rows)

    def score_together(self, requests: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        """Scores several requests as one batch, and gives each its own rows."""
        ends = np.cumsum([len(faces) for faces in requests])
        return np.split(self(np.concatenate(requests)), ends[:-1])


def faces_of(body: bytes) -> npt.NDArray[np.uint8]:
    """Returns the faces of a body of raw grey pixels, uint8 [N, 48, 48, 1]."""
    return np.frombuffer(body, np.uint8).reshape(-1, SIDE, SIDE, 1)
