"""Tests the comparison of a new version with the active one, on a clock that the versions themselves move."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.fake import FakeServable, fake_scores
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ServableId
from ferserve_server.models.validation import compare
from support.fake_models import DESCRIPTION, GOLDEN_FACES
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.servable import ModelDescription, ValidationComparison

SCORES = fake_scores(GOLDEN_FACES, len(LABELS))


class Bench:
    """Two versions and the time, which passes while one of them runs, and while the bench rests."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.rests: list[float] = []

    def version(
        self, version: int, run_s: Iterable[float], description: ModelDescription = DESCRIPTION
    ) -> FakeServable:
        """A version whose batches take these times, in seconds."""
        times = iter(run_s)

        def run(_: object) -> None:
            self.time_s += next(times)

        return FakeServable(ServableId("m", version), description, before_predict=run)

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.time_s += seconds

    def compare(
        self, candidate: FakeServable, active: FakeServable, *, factor: float = 3.0, scores=SCORES
    ) -> ValidationComparison:
        return compare(
            candidate,
            active,
            GOLDEN_FACES,
            scores,
            (1, 4),
            latency_factor=factor,
            now=lambda: self.time_s,
            rest=self.rest,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_running_first_costs_is_held_against_neither_version(bench: Bench) -> None:
    cold = [True]

    def version(number: int) -> FakeServable:
        def run(_: object) -> None:
            bench.time_s += 0.08 if cold[0] else 0.02
            cold[0] = False

        return FakeServable(ServableId("m", number), DESCRIPTION, before_predict=run)

    def rest(seconds: float) -> None:
        bench.time_s += seconds
        cold[0] = True

    found = compare(
        version(2),
        version(1),
        GOLDEN_FACES,
        SCORES,
        (1,),
        latency_factor=3.0,
        now=lambda: bench.time_s,
        rest=rest,
    )

    assert found.latency_s[1] == pytest.approx((0.02, 0.02))


def test_two_versions_that_agree_and_are_as_fast_are_reported_so(bench: Bench) -> None:
    found = bench.compare(bench.version(2, repeat(0.02)), bench.version(1, repeat(0.01)))
    assert (found.version, found.agreement, found.largest_difference) == (1, 1.0, 0.0)
    assert set(found.latency_s) == {1, 4}
    assert found.latency_s[1] == pytest.approx((0.02, 0.01))


def test_what_a_version_says_otherwise_is_reported_and_not_rejected(bench: Bench) -> None:
    scores = np.roll(SCORES, 1, axis=1)
    scores[0] = SCORES[0]
    found = bench.compare(bench.version(2, repeat(0.0)), bench.version(1, repeat(0.0)), scores=scores)
    assert found.agreement == pytest.approx(1 / len(SCORES))
    assert found.largest_difference == pytest.approx(0.65)


@pytest.mark.parametrize(
    "other",
    [
        replace(DESCRIPTION, labels=("a", "b")),
        replace(DESCRIPTION, input=InputSpec("faces", 64, 64)),
    ],
    ids=["classes", "input"],
)
def test_versions_of_other_classes_or_inputs_are_compared_by_time_alone(
    bench: Bench, other: ModelDescription
) -> None:
    found = bench.compare(bench.version(2, repeat(0.01)), bench.version(1, repeat(0.01), other))
    assert found.agreement is None
    assert found.largest_difference is None
    assert found.latency_s[4] == pytest.approx((0.01, 0.01))


def test_a_version_that_takes_ten_times_as_long_is_rejected_with_the_figures(bench: Bench) -> None:
    with pytest.raises(ModelRejectedError) as caught:
        bench.compare(bench.version(2, repeat(0.1)), bench.version(1, repeat(0.01)))
    assert caught.value.reason == "TOO_SLOW"
    facts = caught.value.metadata
    assert (facts["bucket_size"], facts["active_version"], facts["factor"]) == ("1", "1", "3.0")
    assert float(facts["latency_ms"]) == pytest.approx(100)
    assert float(facts["active_latency_ms"]) == pytest.approx(10)


def test_one_undisturbed_run_is_enough_to_pass(bench: Bench) -> None:
    """Other work on the machine makes runs longer, never shorter."""
    disturbed = chain(repeat(0.1, 7), [0.01], repeat(0.02))
    found = bench.compare(bench.version(2, disturbed), bench.version(1, repeat(0.01)))
    assert found.latency_s[1][0] == pytest.approx(0.01)


def test_one_quiet_run_of_the_version_active_does_not_reject_one_that_met_other_work(bench: Bench) -> None:
    disturbed = chain([0.01], repeat(0.08))
    found = bench.compare(bench.version(2, repeat(0.08)), bench.version(1, disturbed))
    assert found.latency_s[1] == pytest.approx((0.08, 0.01))


@pytest.mark.parametrize("seed", range(50))
def test_versions_alike_pass_on_a_machine_that_leaves_them_one_run_in_five(bench: Bench, seed: int) -> None:
    """Every other run is stretched, up to ten times; neither version is any slower than the other."""
    chance = np.random.default_rng(seed)

    def stretched() -> Iterable[float]:
        while True:
            yield 0.01 * (1.0 if chance.random() < 0.2 else chance.uniform(2.0, 10.0))

    found = bench.compare(bench.version(2, stretched()), bench.version(1, stretched()))
    assert set(found.latency_s) == {1, 4}


def test_a_version_ten_times_as_slow_is_rejected_on_a_busy_machine_too(bench: Bench) -> None:
    chance = np.random.default_rng(0)
    slow = (chance.choice([0.1, 0.2, 0.5]) for _ in repeat(None))
    with pytest.raises(ModelRejectedError, match=r"A batch of 1 takes 100\.00 ms or more"):
        bench.compare(bench.version(2, slow), bench.version(1, chain.from_iterable(repeat([0.01, 0.05, 0.01]))))


def test_a_difference_that_nobody_notices_is_not_rejected(bench: Bench) -> None:
    found = bench.compare(bench.version(2, repeat(450e-6)), bench.version(1, repeat(20e-6)))
    assert found.latency_s[1] == pytest.approx((450e-6, 20e-6))


def test_with_a_factor_of_0_no_time_is_taken(bench: Bench) -> None:
    active = bench.version(1, repeat(0.01))
    found = bench.compare(bench.version(2, repeat(9.0)), active, factor=0)
    assert found.latency_s == {}
    assert bench.rests == []


def test_slow_models_are_not_run_for_long(bench: Bench) -> None:
    candidate = bench.version(2, repeat(2.0))
    bench.compare(candidate, bench.version(1, repeat(2.0)))
    assert candidate.batch_sizes == [1, 4]


def test_between_two_rounds_it_rests_as_long_as_they_took(bench: Bench) -> None:
    bench.compare(bench.version(2, repeat(0.02)), bench.version(1, repeat(0.01)))
    assert bench.rests == pytest.approx([0.03] * 10)
