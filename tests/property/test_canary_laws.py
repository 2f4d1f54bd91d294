"""Tests laws of the verdict on a canary and of its share."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.canary import CanaryMode, CanaryResult, Spread, VersionStatistics
from ferserve_server.models.canary.canary import CanaryRun
from ferserve_server.models.canary.rules import CanaryRules
from ferserve_server.models.canary.statistics import RunningSpread
from ferserve_server.models.canary.verdict import judge, wilson
from support.canaries import live_version
from support.fake_clock import FakeClock
from support.recorder import Recorder

RULES = CanaryRules(share=0.1, window_s=60.0, min_requests=20)
_counts = st.integers(0, 10_000)


@st.composite
def _figures(draw: st.DrawFn) -> VersionStatistics:
    requests = draw(_counts)
    spreads = st.builds(Spread, _counts, st.floats(0, 1), st.floats(0, 0.25))
    times = st.builds(Spread, _counts, st.floats(math.log(1e-5), math.log(10)), st.floats(0, 4))
    return VersionStatistics(
        requests,
        draw(st.integers(0, requests)),
        draw(spreads),
        draw(st.dictionaries(st.sampled_from([1, 2, 4, 8]), times)),
    )


@given(_figures(), _figures(), st.floats(0, 1000))
def test_a_verdict_always_has_a_reason_and_figures(
    canary: VersionStatistics, stable: VersionStatistics, elapsed_s: float
) -> None:
    verdict = judge(canary, stable, RULES, elapsed_s=elapsed_s)
    assert verdict.reason
    assert verdict.text
    if verdict.result is CanaryResult.PROMOTE:
        assert elapsed_s >= RULES.window_s
        assert min(canary.request_count, stable.request_count) >= RULES.min_requests


@given(_figures(), st.floats(0, 1000))
def test_a_version_is_never_rolled_back_for_being_like_itself(
    figures: VersionStatistics, elapsed_s: float
) -> None:
    assert judge(figures, figures, RULES, elapsed_s=elapsed_s).result is not CanaryResult.ROLL_BACK


@given(_figures(), _figures(), st.floats(0, 1000), st.integers(0, 100))
def test_more_failures_never_make_a_canary_better(
    canary: VersionStatistics, stable: VersionStatistics, elapsed_s: float, more: int
) -> None:
    rank = [CanaryResult.PROMOTE, CanaryResult.WAIT, CanaryResult.ROLL_BACK].index
    worse = replace(canary, failed_count=min(canary.request_count, canary.failed_count + more))
    before, after = (judge(each, stable, RULES, elapsed_s=elapsed_s) for each in (canary, worse))
    assert rank(after.result) >= rank(before.result)


@given(st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_its_share(pair: tuple[int, int]) -> None:
    low, high = wilson(*pair)
    assert 0.0 <= low <= pair[0] / pair[1] <= high <= 1.0


@given(st.lists(st.floats(-100, 100), min_size=2))
def test_a_running_spread_is_that_of_the_whole_list(values: list[float]) -> None:
    running = RunningSpread()
    for value in values:
        running.add(value)
    found = running.spread()
    assert found.count == len(values)
    assert math.isclose(found.mean, statistics.fmean(values), abs_tol=1e-9)
    assert math.isclose(found.variance, statistics.variance(values), rel_tol=1e-6, abs_tol=1e-6)


@given(st.floats(0.001, 0.999), st.integers(0, 2000), st.integers(0, 3))
def test_a_canary_gets_its_share_to_within_one_request_and_idle_leases_take_none(
    share: float, count: int, idle: int
) -> None:
    rules = replace(RULES, share=share, mode=CanaryMode.SPLIT)
    stable, canary = live_version(1), live_version(2)
    run = CanaryRun(stable, canary, rules, clock=FakeClock(), recorder=Recorder())
    diverted = 0
    for _ in range(count):
        for _ in range(idle):
            with run.lease():
                pass
        with run.lease() as lease:
            diverted += lease.id.version == 2
            lease._used = True
    assert abs(diverted - share * count) <= 1.0 + 1e-6
