"""Tests that counting in bulk equals counting one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Histogram

from ferserve_server.domain.metrics import DURATION_BUCKETS_S
from ferserve_server.telemetry.metrics import CountingHistogram

AMOUNTS = st.lists(st.floats(0, 20) | st.sampled_from(DURATION_BUCKETS_S), min_size=1)


@given(st.lists(AMOUNTS))
def test_many_observations_at_once_count_as_one_by_one(rounds: list[list[float]]) -> None:
    at_once = CountingHistogram("seconds", "Seconds.", buckets=DURATION_BUCKETS_S, registry=None)
    one_by_one = Histogram("seconds", "Seconds.", buckets=DURATION_BUCKETS_S, registry=None)
    for amounts in rounds:
        at_once.observe_all(amounts)
        for amount in amounts:
            one_by_one.observe(amount)
    for mine, theirs in zip(at_once.collect(), one_by_one.collect(), strict=True):
        # Sums differ in the last digits, and the times of creation by microseconds.
        left_out = ("_sum", "_created")
        counts = [sample for sample in mine.samples if not sample.name.endswith(left_out)]
        assert counts
        assert counts == [sample for sample in theirs.samples if not sample.name.endswith(left_out)]
