"""Tests the rules of ferserve-ray that need no Ray: number of replicas, servers found, programs started."""

from __future__ import annotations

import sys

import pytest

from ferserve_ray.autoscaling import TARGET_QUEUE_AGE_S, desired_replicas
from ferserve_ray.registry import EXPIRY_S, Registration, Registry
from ferserve_ray.server import Server, ServerOptions, queue_age_s
from support.fake_clock import FakeClock

OLD, SHORT = 2 * TARGET_QUEUE_AGE_S, 0.0


@pytest.mark.parametrize(
    ("ages_s", "current", "wanted"),
    [
        ([OLD, OLD], 2, 3),
        ([OLD, SHORT], 2, 2),
        ([SHORT, SHORT], 2, 1),
        ([SHORT], 1, 1),
        ([SHORT], 2, 2),  # one has not reported yet
        ([], 3, 3),
        ([TARGET_QUEUE_AGE_S / 2] * 3, 3, 3),
    ],
)
def test_replicas_follow_the_age_of_the_queues(ages_s: list[float], current: int, wanted: int) -> None:
    assert desired_replicas(ages_s, current) == wanted


def test_a_server_is_found_until_it_leaves_or_falls_silent() -> None:
    clock = FakeClock()
    registry = Registry(clock.now)
    first, second = (Registration(f"10.0.0.{n}:1", "node", n, 1, 0.0) for n in (1, 2))
    registry.report("a", second)
    registry.report("b", first)
    assert registry.servers() == [first, second]
    registry.report("b", None)
    assert registry.servers() == [second]
    clock.advance(EXPIRY_S + 0.1)
    assert registry.servers() == []


def test_the_oldest_queue_of_all_versions_counts() -> None:
    text = (
        "# HELP ferserve_queue_oldest_age_seconds Age.\n"
        'ferserve_queue_oldest_age_seconds{model="a",version="1"} 0.25\n'
        'ferserve_queue_oldest_age_seconds{model="b",version="1"} 0.5\n'
        "ferserve_queue_depth_faces 7\n"
    )
    assert queue_age_s(text) == 0.5
    assert queue_age_s("") == 0.0


def test_a_missing_program_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        Server(ServerOptions(("no-such-program",)), "127.0.0.1")


def test_a_server_that_rejects_its_settings_is_not_started_again() -> None:
    program = (sys.executable, "-c", "import sys; print('max_faces is too small', file=sys.stderr); sys.exit(2)")
    server = Server(ServerOptions(program), "127.0.0.1")
    with pytest.raises(ValueError, match="max_faces is too small"):
        server.wait_ready()
    assert server.start_count == 1
    server.stop()
