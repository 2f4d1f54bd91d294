"""Tests laws of the placement of connections on processes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.workers.connection_passing import balanced_primary_share, worker_for_next

SHARES = st.floats(0, 1)
FRONT_COUNTS = st.lists(st.integers(0, 1000), max_size=16)


def _place(own: int, workers: list[int], share: float) -> tuple[int, list[int]]:
    index = worker_for_next(own, workers, share)
    if index is None:
        return own + 1, workers
    return own, [count + (at == index) for at, count in enumerate(workers)]


@given(st.integers(1, 16), SHARES, st.integers(0, 200))
def test_of_those_that_stay_the_primary_has_its_share_and_the_others_are_level(
    worker_count: int, share: float, connections: int
) -> None:
    own, workers = 0, [0] * worker_count
    for _ in range(connections):
        own, workers = _place(own, workers, share)
    assert math.floor(share * connections) <= own <= math.ceil(share * connections)
    assert max(workers) - min(workers) <= 1


@given(st.integers(0, 1000), FRONT_COUNTS, SHARES)
def test_whatever_there_is_one_process_gets_it_and_no_worker_process_that_has_more_than_another(
    own: int, workers: list[int], share: float
) -> None:
    index = worker_for_next(own, workers, share)
    if index is None:
        assert not workers or own < share * (own + sum(workers) + 1)
    else:
        assert workers[index] == min(workers)
        assert own >= share * (own + sum(workers) + 1)


@given(st.integers(0, 50), st.lists(st.integers(0, 50), min_size=1, max_size=5), st.floats(0, 0.95))
def test_a_new_worker_process_gets_all_that_worker_processes_get_until_it_is_level(
    own: int, workers: list[int], share: float
) -> None:
    workers = [*workers, 0]
    others = workers[:-1]
    # With a share of 0.95 the primary process gets 19 for each of a worker process: 19 * (5 * 50 + 50) at the end.
    while workers[-1] < min(others) and own < 10_000:
        own, workers = _place(own, workers, share)
        assert workers[:-1] == others
    assert workers[-1] >= min(others)


@given(st.integers(2, 64), st.integers(1, 256))
def test_the_share_of_the_primary_is_one_and_falls_with_the_number_of_processes(
    processes: int, cores: int
) -> None:
    share = balanced_primary_share(processes, cores)
    assert 0 <= share < 1
    if cores != processes + 1:  # there the next process is one more than there are cores
        assert balanced_primary_share(processes + 1, cores) <= share
