"""Runs ferserve with a model that computes nothing, to measure everything but the model.

Usage: null_server.py BATCH_MS EXECUTORS [--primary-share SHARE] [flags of ferserve-server]. With BATCH_MS above 0
each batch takes that long without using the processor, as one on a GPU does; EXECUTORS batches run at once, 0 for
one per core. SHARE of the connections, 0 to 1, are served by the primary process of several.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.app.overrides import Overrides
from ferserve_server.app.primary_main import run
from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.config.reading import load_settings
from ferserve_server.telemetry.logging import set_up_logging

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

_MAX_FACES = 1024


def null_rows(description: ModelDescription) -> Scores:
    """Returns the answers of the null model: probabilities, and 0 for "shows no face" where the model says so."""
    rows = np.zeros((_MAX_FACES, description.score_column_count), np.float32)
    label_count = len(description.labels)
    rows[:, :label_count] = 0.1
    rows[:, 0] = 1 - 0.1 * (label_count - 1)
    return rows


class NullServable(FakeServable):
    """Answers every batch with precomputed rows."""

    def __init__(
        self, servable_id: ServableId, description: ModelDescription, *, executor_count: int, batch_s: float
    ) -> None:
        super().__init__(servable_id, description, executor_count=executor_count)
        rows = null_rows(description)
        self._rows = rows
        self._pause_s = batch_s

    def predict(self, crops: CropBatch) -> Scores:
        """Returns the first rows, after the time that a batch takes."""
        if self._pause_s:
            time.sleep(self._pause_s)
        return self._rows[: len(crops)]


class NullLoader(FakeLoader):
    """Makes a `NullServable` of every version."""

    def __init__(self, *, executor_count: int, batch_s: float) -> None:
        super().__init__(executor_count=executor_count)
        self._executors = executor_count
        self._pause_s = batch_s

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:  # noqa: ARG002 - part of the port
        """Makes one without reading files."""
        return NullServable(servable_id, description, executor_count=self._executors, batch_s=self._pause_s)


def main() -> None:
    """Runs the server."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("batch_ms", type=float)
    parser.add_argument("executors", type=int)
    parser.add_argument("--primary-share", type=float)
    own, flags = parser.parse_known_args()
    fixed = ["--default-model=fer-nano", "--http-listen=off", "--metrics-listen=off", "--precision=float32"]
    # The null model says nothing of faces, so no golden set fits it; nor is there anything to time.
    settings = load_settings([*fixed, "--tune=fixed", "--golden-tolerance=0.999", *flags])
    set_up_logging(settings.log.log_level, settings.log.log_format)
    executor_count = own.executors or len(os.sched_getaffinity(0))
    loader = NullLoader(executor_count=executor_count, batch_s=own.batch_ms / 1e3)
    run(settings, loader, overrides=Overrides(primary_share=own.primary_share))


if __name__ == "__main__":
    main()
