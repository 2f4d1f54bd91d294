"""Tests the choice of a version's precision, on a clock that the versions themselves move."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.fake import FakeServable, fake_scores
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import GoldenSet, Precision, ServableId
from ferserve_server.models.precision import check_rounded, settle_precision
from ferserve_server.models.tuning import speedup
from ferserve_server.models.validation import ValidationLimits
from support.fake_models import DESCRIPTION, GOLDEN_FACES
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.face import CropBatch, Scores

GOLDEN = GoldenSet(GOLDEN_FACES, fake_scores(GOLDEN_FACES, len(LABELS)))
AUTO = ValidationLimits((1, 4), golden_tolerance=1e-3, precision=None)
FORCED = replace(AUTO, precision=Precision.BFLOAT16)
WARMING = 5
"""Runs before times are taken: both sizes, and three golden faces."""


class Bench:
    """A version that moves the clock by `float32_s` and `bfloat16_s` for each batch."""

    def __init__(
        self,
        float32_s: Iterable[float] = repeat(0.02),
        bfloat16_s: Iterable[float] = repeat(0.01),
        *,
        off_by: float = 0.01,
    ) -> None:
        self.time_s = 0.0
        self.made: dict[Precision, TwoPrecisions] = {}
        self.run_s = {Precision.FLOAT32: iter(float32_s), Precision.BFLOAT16: iter(bfloat16_s)}
        self.off_by = off_by
        TwoPrecisions(self, Precision.FLOAT32)

    def settle(self, limits: ValidationLimits, known_speedup: float | None = None):
        return settle_precision(
            self.made[Precision.FLOAT32], GOLDEN, limits, known_speedup=known_speedup, now=lambda: self.time_s
        )

    @property
    def open(self) -> set[Precision]:
        return {precision for precision, servable in self.made.items() if not servable.closed}


class TwoPrecisions(FakeServable):
    """In bfloat16 its scores are off by `bench.off_by`."""

    def __init__(self, bench: Bench, precision: Precision) -> None:
        super().__init__(ServableId("m", 1), DESCRIPTION)
        self.precision = precision
        self.bench = bench
        bench.made[precision] = self

    def predict(self, crops: CropBatch) -> Scores:
        self.bench.time_s += next(self.bench.run_s[self.precision])
        scores = super().predict(crops)
        return scores + np.float32(self.bench.off_by) if self.precision is Precision.BFLOAT16 else scores

    def with_precision(self, precision: Precision) -> TwoPrecisions:
        return TwoPrecisions(self.bench, precision)


def test_bfloat16_is_taken_where_it_is_clearly_faster_and_float32_is_closed():
    bench = Bench()
    candidate = bench.settle(AUTO)
    assert candidate.servable.precision is Precision.BFLOAT16
    assert candidate.bfloat16_speedup == pytest.approx(2)
    assert candidate.difference == pytest.approx(0.01, rel=1e-3)
    assert bench.open == {Precision.BFLOAT16}


def test_float32_stays_where_bfloat16_is_little_faster():
    bench = Bench(bfloat16_s=repeat(0.019))
    candidate = bench.settle(AUTO)
    assert candidate.servable.precision is Precision.FLOAT32
    assert candidate.bfloat16_speedup == pytest.approx(20 / 19)
    assert candidate.difference == 0
    assert bench.open == {Precision.FLOAT32}


def test_float32_stays_where_bfloat16_says_something_else():
    bench = Bench(off_by=0.04)
    candidate = bench.settle(AUTO)
    assert candidate.servable.precision is Precision.FLOAT32
    assert candidate.bfloat16_speedup is None
    assert bench.open == {Precision.FLOAT32}


def test_a_burst_of_other_work_beside_float32_does_not_make_bfloat16_look_fast():
    """Six of nine rounds are disturbed: the median is, the least time is not."""
    bench = Bench(chain(repeat(0.02, WARMING), repeat(0.04, 6), repeat(0.02)), repeat(0.02))
    assert bench.settle(AUTO).servable.precision is Precision.FLOAT32


def test_bfloat16_that_is_asked_for_is_not_timed():
    bench = Bench(bfloat16_s=repeat(0.05))
    candidate = bench.settle(FORCED)
    assert (candidate.servable.precision, candidate.bfloat16_speedup) == (Precision.BFLOAT16, None)
    assert len(bench.made[Precision.BFLOAT16].batch_sizes) == WARMING
    assert bench.open == {Precision.BFLOAT16}


def test_a_speedup_that_is_known_is_not_measured_again():
    bench = Bench()
    assert bench.settle(AUTO, known_speedup=1.3).servable.precision is Precision.BFLOAT16
    assert len(bench.made[Precision.BFLOAT16].batch_sizes) == WARMING
    assert Bench().settle(AUTO, known_speedup=1.05).servable.precision is Precision.FLOAT32


def test_bfloat16_that_is_asked_for_and_says_something_else_is_rejected():
    bench = Bench(off_by=0.04)
    with pytest.raises(ModelRejectedError) as caught:
        bench.settle(FORCED)
    assert caught.value.reason == "GOLDEN_MISMATCH"
    assert bench.open == set()


def test_a_machine_without_bfloat16_takes_float32_and_rejects_what_is_forced():
    plain = FakeServable(ServableId("m", 1), DESCRIPTION)
    assert settle_precision(plain, GOLDEN, AUTO).servable is plain
    assert not plain.closed
    with pytest.raises(ModelRejectedError) as caught:
        settle_precision(plain, GOLDEN, FORCED)
    assert caught.value.reason == "PRECISION_UNSUPPORTED"
    assert plain.closed


def test_a_version_that_is_wrong_in_float32_is_rejected_whatever_is_asked_for():
    wrong = GoldenSet(GOLDEN.faces, GOLDEN.scores + np.float32(0.02))
    bench = Bench()
    with pytest.raises(ModelRejectedError):
        settle_precision(bench.made[Precision.FLOAT32], wrong, FORCED)
    assert bench.open == set()


def test_in_float32_bfloat16_is_not_made():
    bench = Bench()
    bench.settle(replace(AUTO, precision=Precision.FLOAT32))
    assert set(bench.made) == {Precision.FLOAT32}


def _two_faces(lead: float) -> GoldenSet:
    golden = np.full((2, 7), 0.1, np.float32)
    golden[:, 0], golden[:, 1] = 0.25 + lead, 0.25
    return GoldenSet(np.zeros((2, 48, 48, 1), np.uint8), golden)


def test_a_face_whose_class_leads_clearly_must_keep_it():
    golden = _two_faces(lead=0.04)
    changed = golden.scores + np.array([-0.025, 0.025, 0, 0, 0, 0, 0], np.float32)
    with pytest.raises(ModelRejectedError, match="2 golden faces get another class"):
        check_rounded(changed, golden, 0.03)


def test_a_face_between_two_classes_may_change_sides():
    golden = _two_faces(lead=0.02)
    changed = golden.scores + np.array([-0.025, 0.025, 0, 0, 0, 0, 0], np.float32)
    assert check_rounded(changed, golden, 0.03) == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize(
    ("slow_s", "fast_s", "factor"),
    [
        ([2, 2, 2], [1, 1, 1], 2),
        ([2, 9, 9], [1, 1, 1], 2),
        ([9, 2, 3], [8, 9, 1], 2),
        ([1], [0], 1),
    ],
)
def test_a_speedup_is_reported_by_the_runs_that_nothing_disturbed(slow_s, fast_s, factor):
    assert speedup(slow_s, fast_s) == pytest.approx(factor)
