"""Tests the batch sizes that a version uses."""

import pytest

from ferserve_server.models.tuning import (
    BucketRules,
    choose_buckets,
    drop_inefficient_sizes,
    interpolate,
    measured_sizes,
    within_target,
)
from ferserve_server.scheduler.settings import BUCKET_SIZES


@pytest.mark.parametrize(
    ("latency_ms", "kept"),
    [
        pytest.param({1: 1, 8: 4, 32: 8}, (1, 8, 32), id="each size is better per face than the last"),
        pytest.param({1: 1, 8: 4, 32: 16}, (1, 8), id="the largest is no better per face than the next"),
        pytest.param({1: 1, 8: 4, 32: 15.7}, (1, 8), id="the largest is hardly better per face"),
        pytest.param({1: 1, 8: 4, 32: 15.6}, (1, 8, 32), id="the largest is a little better per face"),
        pytest.param({1: 10, 64: 73, 96: 103, 112: 118, 128: 133}, (1, 64, 96, 112), id="steps of little gain"),
        pytest.param({1: 1, 8: 8, 32: 32}, (1,), id="batches save nothing"),
        pytest.param({1: 1, 8: 4, 16: 8, 32: 10}, (1, 8, 16, 32), id="a poor size in between saves padding"),
        pytest.param({1: 10, 2: 10, 4: 10.2, 8: 18}, (1, 4, 8), id="padding up to the next costs as much"),
        pytest.param({4: 1}, (4,), id="one size"),
    ],
)
def test_batch_sizes_that_do_not_pay_are_left_out(latency_ms, kept):
    assert drop_inefficient_sizes(latency_ms) == kept


@pytest.mark.parametrize(
    ("target_s", "delay_s", "kept"),
    [
        (0.040, 0.0, (1, 8, 32)),
        (0.039, 0.0, (1, 8)),
        (0.040, 0.001, (1, 8)),
        (0.010, 0.0, (1, 8)),
        (0.001, 0.0, (1,)),
    ],
)
def test_the_largest_batch_fits_twice_into_the_target(target_s, delay_s, kept):
    assert within_target({1: 0.002, 8: 0.005, 32: 0.020}, target_s, delay_s) == kept


def test_fixed_sizes_without_a_target_need_no_times():
    rules = BucketRules()
    assert not rules.needs_times
    assert choose_buckets((1, 8, 32), {}, rules) == (1, 8, 32)


def test_a_size_beyond_the_target_does_not_count_for_what_pays():
    """32 pays best, but is too long; 8 must not be thrown out for it, nor 32 come back."""
    rules = BucketRules(drop_inefficient=True, target_s=0.012)
    assert choose_buckets((1, 8, 32), {1: 0.002, 8: 0.0058, 32: 0.0061}, rules) == (1, 8)


@pytest.mark.parametrize(
    ("sizes", "measured"),
    [
        ((1,), (1,)),
        ((1, 8, 32), (1, 8, 32)),
        ((1, 2, 3, 4, 6, 8), (1, 2, 4, 8)),
        ((4, 6, 7), (4, 7)),
        (BUCKET_SIZES, (1, 2, 4, 8, 16, 32, 64, 128)),
    ],
)
def test_sizes_well_apart_are_measured(sizes, measured):
    assert measured_sizes(sizes) == measured


def test_times_in_between_lie_on_the_line():
    assert interpolate((1, 2, 8, 12), {1: 0.001, 4: 0.004, 8: 0.006, 16: 0.010}) == pytest.approx(
        {1: 0.001, 2: 0.002, 8: 0.006, 12: 0.008}
    )


def test_sizes_in_between_are_used_where_they_save_padding():
    """A batch costs 10 ms and each face 1 ms more; 11 faces save no twentieth of the time of 12."""
    measured_s = {1: 0.011, 8: 0.018, 16: 0.026}
    rules = BucketRules(drop_inefficient=True)
    assert choose_buckets((1, 8, 11, 12, 16), measured_s, rules) == (1, 8, 12, 16)


def test_the_largest_batch_within_a_target_may_lie_in_between():
    rules = BucketRules(target_s=0.027)
    assert choose_buckets((1, 8, 12, 16), {1: 0.002, 8: 0.009, 16: 0.017}, rules) == (1, 8, 12)
