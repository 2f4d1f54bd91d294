"""Tests the engine process that is started before there is a version for it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np

from ferserve_server.domain.servable import ServableId
from ferserve_server.engine.loader import EngineLoader
from ferserve_server.engine.process import EngineOptions
from support.fake_models import DESCRIPTION
from support.process_memory import resident_mib


def test_one_that_ends_before_a_version_comes_is_not_held_against_the_version(tmp_path: Path) -> None:
    loader = EngineLoader(EngineOptions(tmp_path, loader_module="support.engine_children"), largest_batch=4)
    others = resident_mib(os.getpid()).keys()
    with contextlib.closing(loader):
        loader.start()
        (prestarted,) = resident_mib(os.getpid()).keys() - others
        os.kill(prestarted, signal.SIGKILL)
        while Path(f"/proc/{prestarted}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)

        servable = loader.load(ServableId("fer-nano", 1), tmp_path, DESCRIPTION)
        assert servable.predict(np.zeros((2, 48, 48, 1), np.uint8)).shape == (2, len(DESCRIPTION.labels))
        servable.close()
