"""How trials on an engine process are timed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ferserve_server.backends.engine.engine import Engine, Version
from ferserve_server.domain.servable import ServableId
from ferserve_server.repository.core_time import core_time_s
from support.fake_models import DESCRIPTION

if TYPE_CHECKING:
    from pathlib import Path

WAITED_S = 0.3


class BusyProcess:
    """An engine process that does what it is asked, and had to wait for a core."""

    def ask(self, do: str, fields: object, fds: object = ()) -> dict[str, Any]:
        return {"executor_count": 1} if do == "load" else {"waited_s": WAITED_S}

    def end(self) -> None:
        """There is no process."""


def _time_s() -> float:
    """The clock of trials, with a time that stands still, and on a thread that never waits."""
    return core_time_s(lambda: 10.0, lambda: "1 0 1")


def test_what_the_engine_waits_for_a_core_counts_for_no_batch(tmp_path: Path) -> None:
    version = Version(ServableId("net", 1), tmp_path, DESCRIPTION)
    process: Any = BusyProcess()
    engine = Engine(version, 4, lambda _: process, lambda: False)

    def try_out() -> float:
        before_s = _time_s()
        engine.predict(0, np.zeros((6, 48, 48, 1), np.uint8))  # two parts
        return before_s - _time_s()

    with ThreadPoolExecutor(1) as thread:  # what is noted is noted for a thread
        assert thread.submit(try_out).result() == pytest.approx(2 * WAITED_S)
    engine.close()
