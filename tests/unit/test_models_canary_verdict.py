"""Tests the verdict from the figures of a canary."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ferserve_server.domain.canary import CanaryMode, CanaryResult, ShadowStatistics, Spread, VersionStatistics
from ferserve_server.models.canary.rules import CanaryRules
from ferserve_server.models.canary.verdict import judge

RULES = CanaryRules(share=0.1, window_s=60.0, min_requests=50)
GOOD = VersionStatistics(200, 0, Spread(200, 0.7, 0.01), {8: Spread(100, math.log(0.010), 0.04)})


def _judge(canary: VersionStatistics, stable: VersionStatistics = GOOD, elapsed_s: float = 61.0, **more):
    return judge(canary, stable, more.pop("rules", RULES), elapsed_s=elapsed_s, **more)


def test_a_canary_like_the_stable_version_is_promoted_when_the_window_is_over() -> None:
    assert _judge(GOOD, elapsed_s=59.0).reason == "WINDOW_OPEN"
    verdict = _judge(GOOD)
    assert (verdict.result, verdict.reason) == (CanaryResult.PROMOTE, "WITHIN_LIMITS")
    assert "0 of 200 requests failed" in verdict.text
    assert "10.00 ms" in verdict.text


def test_too_few_requests_of_either_version_promote_nothing() -> None:
    few = replace(GOOD, request_count=49)
    assert _judge(few).reason == "TOO_FEW_REQUESTS"
    assert _judge(GOOD, few).reason == "TOO_FEW_REQUESTS"
    assert _judge(VersionStatistics(), VersionStatistics()).reason == "TOO_FEW_REQUESTS"


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (replace(GOOD, failed_count=20), "ERRORS"),
        (replace(GOOD, log_batch_s={8: Spread(100, math.log(0.020), 0.04)}), "LATENCY"),
        (replace(GOOD, confidence=Spread(200, 0.5, 0.01)), "CONFIDENCE"),
    ],
)
def test_a_canary_that_is_worse_beyond_doubt_is_rolled_back_before_the_window_is_over(
    worse: VersionStatistics, reason: str
) -> None:
    verdict = _judge(worse, elapsed_s=1.0)
    assert (verdict.result, verdict.reason) == (CanaryResult.ROLL_BACK, reason)
    assert "stable version" in verdict.text


@pytest.mark.parametrize(
    "doubtful",
    [
        replace(GOOD, failed_count=4),
        replace(GOOD, log_batch_s={8: Spread(10, math.log(0.016), 1.0)}),
        replace(GOOD, confidence=Spread(20, 0.59, 0.04)),
    ],
)
def test_a_canary_that_may_be_worse_by_chance_is_watched_longer(doubtful: VersionStatistics) -> None:
    assert (_judge(doubtful).result, _judge(doubtful).reason) == (CanaryResult.WAIT, "IN_DOUBT")


def test_one_failure_among_the_first_requests_decides_nothing() -> None:
    for count in range(1, 11):
        canary = replace(GOOD, request_count=count, failed_count=1)
        assert _judge(canary, elapsed_s=1.0).result is CanaryResult.WAIT


def test_errors_that_both_versions_have_are_not_the_canarys() -> None:
    failing = replace(GOOD, failed_count=100)
    assert _judge(failing, failing).result is CanaryResult.PROMOTE


def test_only_batches_of_the_same_size_are_compared() -> None:
    small = replace(GOOD, log_batch_s={1: Spread(100, math.log(0.1), 0.04)})
    assert _judge(small).result is CanaryResult.PROMOTE
    mixed = replace(small, log_batch_s={**small.log_batch_s, 8: Spread(100, math.log(0.1), 0.04)})
    assert _judge(mixed).reason == "LATENCY"


def test_a_difference_below_the_clocks_error_is_not_held_against_it() -> None:
    quick = replace(GOOD, log_batch_s={8: Spread(100, math.log(0.0001), 0.0)})
    slower = replace(GOOD, log_batch_s={8: Spread(100, math.log(0.0004), 0.0)})
    assert _judge(slower, quick).result is CanaryResult.PROMOTE


def test_an_engine_that_does_not_answer_is_rolled_back_at_once() -> None:
    verdict = _judge(VersionStatistics(), elapsed_s=0.0, healthy=False)
    assert (verdict.result, verdict.reason) == (CanaryResult.ROLL_BACK, "ENGINE_STALLED")


def test_a_shadow_is_promoted_by_itself_only_with_a_limit_for_its_agreement() -> None:
    shadow = ShadowStatistics(500, 480, 0.3, 0.01)
    rules = replace(RULES, mode=CanaryMode.SHADOW)
    assert _judge(GOOD, rules=rules, shadow=shadow).reason == "OPERATOR_DECIDES"
    agreeing = replace(rules, min_agreement=0.9)
    assert _judge(GOOD, rules=agreeing, shadow=shadow).result is CanaryResult.PROMOTE
    assert _judge(GOOD, rules=agreeing, shadow=replace(shadow, agreed_count=300)).reason == "AGREEMENT"
    assert _judge(GOOD, rules=agreeing, shadow=replace(shadow, agreed_count=445)).reason == "IN_DOUBT"
