"""A clock that stands still while its thread waits for a core."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from ferserve_server.repository.core_time import core_time_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def told(waited_ms: Iterable[int]) -> Callable[[], str]:
    """What the system tells, one text after another."""
    texts = iter(waited_ms)
    return lambda: f"123456 {next(texts) * 1_000_000} 7\n"


def test_waiting_for_a_core_takes_no_time() -> None:
    times = iter([10.0, 10.5])
    figures = told([100, 100, 400, 400])
    started_at, ended_at = (core_time_s(lambda: next(times), figures) for _ in range(2))
    assert ended_at - started_at == pytest.approx(0.2)


def test_a_wait_between_the_two_readings_is_read_again() -> None:
    times = iter([10.0, 10.3])
    assert core_time_s(lambda: next(times), told([100, 400, 400])) == pytest.approx(9.9)


def absent() -> str:
    raise FileNotFoundError


@pytest.mark.parametrize(
    "figures", [absent, lambda: "", lambda: "0", lambda: "1 many 3"], ids=["absent", "empty", "short", "no number"]
)
def test_where_the_system_does_not_tell_it_is_the_time_that_passes(figures: Callable[[], str]) -> None:
    times = chain([10.0], repeat(10.5))
    assert core_time_s(lambda: next(times), figures) == 10.0
    assert core_time_s(lambda: next(times), figures) == 10.5


def test_it_goes_forward_on_this_machine() -> None:
    times = [core_time_s() for _ in range(100)]
    assert times == sorted(times)
