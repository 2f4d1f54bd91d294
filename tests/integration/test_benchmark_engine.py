"""Tests the engine alone, which large calls are compared with, as a process."""

import os
import signal

import pytest
from bare_engine import bare_engine


def test_the_bare_engine_says_what_it_got_through_each_time_until_it_ends() -> None:
    with bare_engine(8) as engine:
        first, second = (engine.run(warm_s=0.1, measure_s=0.3) for _ in range(2))
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="ended with exit code -9"):
            engine.run(warm_s=0.1, measure_s=0.3)

    for figures in (first, second):
        assert figures["faces_per_s"] > 0
        assert figures["cpu_s_per_1000_faces"] > 0


def test_an_engine_that_does_not_come_up_is_said_and_not_waited_for() -> None:
    with pytest.raises(RuntimeError, match="did not come up"), bare_engine(0):
        pass
