"""Tests the placement of the next connection."""

from __future__ import annotations

import pytest

from ferserve_server.workers.connection_passing import balanced_primary_share, worker_for_next


@pytest.mark.parametrize(
    ("primary_count", "worker_counts", "primary_share", "expected"),
    [
        (0, [], 0.0, None),  # nobody else
        (9, [], 0.0, None),
        (0, [0], 0.75, None),  # the first one is served where it costs least
        (3, [0], 0.75, 0),
        (0, [0, 0], 0.0, 0),
        (0, [3, 2, 2], 0.0, 1),  # the fewest; of those the first
        (4, [9, 0], 0.5, None),  # also while a worker process has none
        (7, [0, 5], 0.5, 0),
        (50, [0], 1.0, None),
    ],
)
def test_the_primary_takes_its_share_and_else_the_worker_process_with_the_fewest(
    primary_count: int, worker_counts: list[int], primary_share: float, expected: int | None
) -> None:
    assert worker_for_next(primary_count, worker_counts, primary_share) == expected


@pytest.mark.parametrize(
    ("process_count", "core_count", "expected"),
    [
        (2, 1, 0.875),
        (2, 2, 0.875),
        (4, 4, 0.875),
        (64, 4, 0.875),
        (8, 8, 0.0),
        (2, 3, 0.48),
        (2, 64, 0.48),
        (3, 4, 0.13),
        (4, 5, 0.0),
        (16, 64, 0.0),
    ],
)
def test_the_primary_takes_most_where_cores_are_few_and_none_where_others_keep_it_busy(
    process_count: int, core_count: int, expected: float
) -> None:
    assert balanced_primary_share(process_count, core_count) == pytest.approx(expected, abs=0.005)
