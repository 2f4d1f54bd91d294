"""Tests the parts of the load test that need no server."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_client.bench.arrivals import arrival_times
from ferserve_client.bench.capacity import PRECISION, Bound, CapacitySearch
from ferserve_client.bench.measurement import OK, Measurement, Recorder
from ferserve_client.bench.page import result_page


def measured(p99_ms: float, failed: int = 0, ok: int = 1000) -> Measurement:
    outcomes = {OK: ok} | ({"QUEUE_FULL": failed} if failed else {})
    return Measurement(10.0, 1.0, outcomes, ok, {"p99": p99_ms} if ok else {}, 0.5)


@pytest.mark.parametrize("kind", ["poisson", "constant"])
def test_arrivals_come_at_the_rate_that_was_asked_for(kind) -> None:
    times = list(arrival_times(200.0, 50.0, kind, seed=3))

    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 50.0
    assert len(times) == pytest.approx(10_000, rel=0.05)


def test_poisson_arrivals_are_bursty_and_repeatable() -> None:
    times = list(arrival_times(100.0, 20.0, "poisson", seed=5))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert spread == pytest.approx(mean, rel=0.15)  # as of an exponential distribution
    assert times == list(arrival_times(100.0, 20.0, "poisson", seed=5))


def test_a_rate_of_nothing_is_rejected() -> None:
    with pytest.raises(ValueError, match="above 0"):
        next(arrival_times(0.0, 1.0, "constant", seed=1))


def test_latencies_count_within_the_measured_time_and_failures_have_none() -> None:
    recorder = Recorder(begin_s=10.0, end_s=20.0)
    recorder.add(9.9, 30.0, OK, 1)  # warm-up
    for number in range(100):
        recorder.add(10.0 + number / 20, 10.0 + number / 20 + (number + 1) / 1000, OK, 4)
    recorder.add(19.0, 29.0, "QUEUE_FULL", 4)
    recorder.add(20.0, 20.1, OK, 1)  # after the end

    found = recorder.measurement(None, 0.25)

    assert (found.ok_count, found.failed_count, found.item_count) == (100, 1, 400)
    assert (found.calls_per_s, found.items_per_s) == (10.0, 40.0)
    assert found.latencies_ms["p50"] == pytest.approx(50.5)
    assert found.latencies_ms["max"] == pytest.approx(100.0)
    assert found.record()["outcomes"] == {"OK": 100, "QUEUE_FULL": 1}


def test_without_answers_there_are_no_latencies() -> None:
    assert Recorder(0.0, 1.0).measurement(5.0, 0.0).latencies_ms == {}


def test_a_bound_holds_with_few_failures_and_a_p99_within_it() -> None:
    bound = Bound(50.0)

    assert bound.holds(measured(50.0))
    assert bound.holds(measured(50.0, failed=1))
    assert not bound.holds(measured(50.1))
    assert not bound.holds(measured(10.0, failed=2))
    assert not bound.holds(measured(0.0, ok=0))


@given(capacity=st.floats(0.5, 50_000), first=st.floats(1, 10_000))
def test_the_search_ends_just_below_the_capacity_wherever_it_starts(capacity: float, first: float) -> None:
    search = CapacitySearch(first)
    canaries = 0
    while (rate := search.next_rate()) is not None:
        search.observe(rate, holds=rate <= capacity)
        canaries += 1

    assert canaries <= 16
    if search.highest_held is not None:
        assert search.highest_held <= capacity
        if first / 8 < capacity < first * 8:
            assert search.highest_held * PRECISION >= capacity * 0.999


def test_the_page_shows_the_figures_and_nothing_from_elsewhere() -> None:
    loads = [measured(10.0), Measurement(20.0, 1.0, {OK: 9}, 9, {"p99": 30.0, "p50": 5.0}, 0.2, [(0, 1), (50, 2)])]

    page = result_page("analyze <b>", {"server": "here:1"}, loads)

    assert "analyze &lt;b&gt;" in page
    assert page.count("<svg") == 2
    assert ">30.0<" in page
    assert "://" not in page
