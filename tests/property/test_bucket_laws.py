"""Tests laws of the choice of batch sizes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.models.tuning import (
    BucketRules,
    choose_buckets,
    drop_inefficient_sizes,
    interpolate,
    measured_sizes,
    within_target,
)

curves = st.dictionaries(st.integers(1, 512), st.floats(1e-5, 10.0), min_size=1, max_size=10)


@given(curves)
def test_what_is_left_is_some_of_the_sizes_rising(latency_s):
    kept = drop_inefficient_sizes(latency_s)
    assert kept
    assert list(kept) == sorted(set(kept) & set(latency_s))


@given(curves)
def test_leaving_out_costs_no_face_more_than_a_twentieth(latency_s):
    """Through the sizes that are left: 1/0.95 times, and beyond the largest of them 1.02 times."""
    kept = drop_inefficient_sizes(latency_s)
    for size, alone_s in latency_s.items():
        if size <= kept[-1]:
            padded_s = latency_s[min(each for each in kept if each >= size)]
            assert 0.95 * padded_s <= alone_s or size in kept
        else:
            assert latency_s[kept[-1]] / kept[-1] <= 1.02 * alone_s / size


@given(curves)
def test_choosing_again_changes_nothing_at_the_top(latency_s):
    kept = drop_inefficient_sizes(latency_s)
    assert drop_inefficient_sizes({size: latency_s[size] for size in kept})[-1] <= kept[-1]


@given(curves, st.floats(0, 30), st.floats(0, 5))
def test_no_batch_but_the_smallest_exceeds_the_target(latency_s, target_s, delay_s):
    kept = within_target(latency_s, target_s, delay_s)
    assert kept[0] == min(latency_s)
    assert len(kept) == 1 or delay_s + 2 * latency_s[kept[-1]] <= target_s


@given(curves, st.floats(0.001, 30), st.floats(0, 5))
def test_a_longer_target_allows_no_smaller_batches(latency_s, target_s, more_s):
    assert within_target(latency_s, target_s + more_s)[-1] >= within_target(latency_s, target_s)[-1]


@given(curves, st.floats(0, 30), st.booleans())
def test_there_is_always_a_size(latency_s, target_s, drop_inefficient):
    assert choose_buckets(
        sorted(latency_s), latency_s, BucketRules(drop_inefficient=drop_inefficient, target_s=target_s)
    )


rising_sizes = st.sets(st.integers(1, 512), min_size=1, max_size=30).map(sorted)


@given(rising_sizes)
def test_what_is_measured_spans_all_sizes_and_is_well_apart(sizes):
    measured = measured_sizes(sizes)
    assert (measured[0], measured[-1]) == (sizes[0], sizes[-1])
    assert set(measured) <= set(sizes)
    assert all(larger >= 2 * smaller for smaller, larger in pairwise(measured[:-1]))
    assert all(any(each <= size < 2 * each or each == size for each in measured) for size in sizes)


@given(rising_sizes, st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_what_is_measured_of_an_even_engine_tells_all_sizes(sizes, batch_s, face_s):
    times = interpolate(sizes, {size: batch_s + face_s * size for size in measured_sizes(sizes)})
    assert times == pytest.approx({size: batch_s + face_s * size for size in sizes})


@given(curves)
def test_fewer_faces_never_take_longer_than_more(latency_s):
    sizes = sorted(latency_s)
    times = interpolate(sizes, latency_s)
    assert all(times[fewer] <= times[more] for fewer, more in pairwise(sizes))
    assert all(times[size] <= latency_s[size] for size in sizes)
