"""Tests the row count below which a batch waits, from the durations of batches."""

import pytest

from ferserve_server.scheduler.fixed_cost import min_concurrent_rows


def milliseconds(batch, row, sizes=(1, 8, 32, 128)):
    return {size: (batch + row * size) / 1e3 for size in sizes}


@pytest.mark.parametrize(
    ("batch_ms", "row_ms", "expected"),
    [(0.31, 0.06, 9), (0.4, 0.3, 2), (0.6, 0.9, 0), (0.0, 0.5, 0), (0.35, 0.01, 32)],
)
def test_few_are_rows_that_cost_less_than_their_batch_with_its_overhead(batch_ms, row_ms, expected):
    assert min_concurrent_rows(milliseconds(batch_ms, row_ms)) == expected


@pytest.mark.parametrize(
    ("milliseconds_by_size", "expected"),
    [
        ({1: 0.84, 2: 0.58, 4: 0.70, 8: 0.98, 16: 1.35, 32: 2.21, 64: 4.79, 128: 8.76}, 10),
        ({1: 0.85, 2: 1.15, 4: 1.79, 8: 3.32, 16: 5.91, 32: 10.8, 64: 19.9, 128: 39.9}, 2),
        ({1: 1.67, 2: 2.53, 4: 3.90, 8: 6.96, 16: 12.6, 32: 22.8, 64: 45.3, 128: 90.3}, 1),
    ],
    ids=["fer-nano, the first batch cold", "fer-small", "fer-base"],
)
def test_few_are_distinguished_from_times_as_measured(milliseconds_by_size, expected):
    assert min_concurrent_rows({size: ms / 1e3 for size, ms in milliseconds_by_size.items()}) == expected


def test_rows_that_cost_nothing_are_few_up_to_a_bound():
    assert min_concurrent_rows({1: 0.02, 128: 0.02}) == 32
    assert min_concurrent_rows({1: 0.021, 128: 0.02}) == 32


def test_a_net_whose_batches_cost_nothing_but_their_rows_has_no_few_rows():
    assert min_concurrent_rows({1: 0.001, 128: 1.0}) == 0


@pytest.mark.parametrize("latency_s", [{}, {8: 0.01}])
def test_nothing_is_few_where_nothing_tells(latency_s):
    assert min_concurrent_rows(latency_s) == 0
