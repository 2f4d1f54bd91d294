"""Tests the batch times of a version, beside other work."""

import numpy as np
import pytest

from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.tuning import measure_curve
from support.fake_models import DESCRIPTION

SIZES = (1, 8, 64)
FACES = np.zeros((4, 48, 48, 1), np.uint8)


class Machine:
    """An engine that takes 1 ms a batch and 0.1 ms a face, and as much again for every batch of the busy time."""

    def __init__(self, busy_s: tuple[float, float] = (0.0, 0.0)) -> None:
        self.now_s = 0.0
        self.rested_s: list[float] = []
        self._busy_s = busy_s
        self.servable = FakeServable(ServableId("fer", 1), DESCRIPTION, before_predict=self._compute)

    def now(self) -> float:
        return self.now_s

    def _compute(self, crops: np.ndarray) -> None:
        begun_s, over_s = self._busy_s
        self.now_s += (1e-3 + 1e-4 * len(crops)) * (2 if begun_s <= self.now_s < over_s else 1)

    def curve_ms(self) -> dict[int, float]:
        curve = measure_curve(self.servable, FACES, SIZES, now=self.now, rest=self.rested_s.append)
        return {size: seconds * 1e3 for size, seconds in curve.items()}


def test_each_size_takes_its_time():
    assert Machine().curve_ms() == pytest.approx({1: 1.1, 8: 1.8, 64: 7.4})


@pytest.mark.parametrize("begun_s", [0.0, 0.02, 0.05])
def test_other_work_for_longer_than_all_runs_of_a_small_batch_changes_nothing(begun_s):
    machine = Machine(busy_s=(begun_s, begun_s + 0.04))

    assert machine.curve_ms() == pytest.approx({1: 1.1, 8: 1.8, 64: 7.4})


def test_sizes_alternate_and_run_a_few_times_in_a_row():
    machine = Machine()

    machine.curve_ms()

    assert machine.servable.batch_sizes == [1, 1, 1, 8, 8, 8, 64, 64, 64] * 3


def test_live_traffic_gets_as_much_time_as_the_measurement():
    machine = Machine()

    machine.curve_ms()

    assert sum(machine.rested_s) == pytest.approx(machine.now_s)


def test_a_size_that_takes_long_runs_less_often():
    slow = FakeServable(ServableId("fer", 1), DESCRIPTION)
    clock = iter(np.arange(0.0, 1000.0, 0.25))

    measure_curve(slow, FACES, (1, 8), now=lambda: float(next(clock)))

    assert slow.batch_sizes == [1, 1, 8, 8]
