"""Tests that hang detection follows the batch times of a version, not one constant (faults, item 12)."""

from ferserve_server.engine.hang_detection import HangDetection


def _seconds_until_hung(hangs, step_s=0.25):
    now, looks = 0.0, 0
    while not hangs.check(now, [1]):
        now += step_s
        looks += 1
        assert looks < 10_000
    return now


def test_the_limit_follows_the_slowest_batch_within_bounds():
    assert HangDetection(30.0, {}).limit_s == 30.0  # nothing is known
    assert HangDetection(30.0, {1: 0.001, 32: 0.004}).limit_s == 2.0
    assert HangDetection(30.0, {32: 0.2}).limit_s == 6.0
    assert HangDetection(30.0, {32: 5.0}).limit_s == 30.0
    assert HangDetection(1.5, {32: 0.004}).limit_s == 1.5


def test_what_is_not_measured_before_is_learnt_from_answers_and_forgotten_again():
    hangs = HangDetection(30.0, {})
    hangs.answered(1, 0.5)
    assert hangs.limit_s == 15.0
    for sequence in range(5000):
        hangs.answered(sequence, 0.01)
    assert hangs.limit_s == 2.0


def test_a_batch_hangs_when_it_has_run_for_the_limit():
    assert _seconds_until_hung(HangDetection(30.0, {8: 0.01})) == 2.0


def test_a_server_that_was_stopped_itself_takes_nobody_for_hung():
    hangs = HangDetection(30.0, {8: 0.01})
    assert hangs.check(0.0, [1]) == []
    assert hangs.check(3600.0, [1]) == []
    assert hangs.check(3600.25, [1]) == []


def test_each_batch_has_a_time_of_its_own():
    hangs = HangDetection(30.0, {8: 0.01})
    for step in range(8):
        assert hangs.check(step / 4, [step]) == []
