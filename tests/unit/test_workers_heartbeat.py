"""Tests the detection of hung worker processes."""

from __future__ import annotations

from ferserve_server.workers.process import HEARTBEAT_INTERVAL_S, MAX_MISSED_BEATS, MAX_START_S, Heartbeat


def _beats_until_hung(heartbeat: Heartbeat, received_count: int, *, listens: bool) -> int:
    """Beats of silence until the process counts as hung, at most 1,000."""
    return next(beat for beat in range(1, 1001) if heartbeat.beat(received_count, listens=listens))


def test_a_process_that_is_silent_for_ten_beats_hangs() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(1, listens=True)
    assert _beats_until_hung(heartbeat, 1, listens=True) == MAX_MISSED_BEATS


def test_a_process_that_says_something_once_in_nine_beats_lives_indefinitely() -> None:
    heartbeat = Heartbeat()
    assert not any(heartbeat.beat(1 + beat // (MAX_MISSED_BEATS - 1), listens=True) for beat in range(1000))


def test_a_sign_of_life_starts_the_count_again() -> None:
    heartbeat = Heartbeat()
    for _ in range(MAX_MISSED_BEATS - 1):
        heartbeat.beat(1, listens=True)
    heartbeat.beat(2, listens=True)
    assert _beats_until_hung(heartbeat, 2, listens=True) == MAX_MISSED_BEATS


def test_a_process_that_does_not_listen_yet_has_longer() -> None:
    assert _beats_until_hung(Heartbeat(), 0, listens=False) == MAX_START_S / HEARTBEAT_INTERVAL_S
