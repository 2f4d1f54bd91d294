"""Tests admission while every executor is busy."""

import math
from dataclasses import dataclass, replace

import pytest

from ferserve_server.domain.errors import DeadlineUnmeetableError, QueueFullError
from ferserve_server.scheduler.admission import Load, QueueLimits, ServiceEstimate, check_admission
from ferserve_server.scheduler.policy import DispatchRules, share_out

BATCH_S = 0.04
LIMITS = QueueLimits(
    max_faces=4096, max_bytes=2**30, max_caller_faces=4096, max_batch_size=32, quantum=8, executor_count=1
)
RULES = DispatchRules(max_batch_size=32, max_queue_delay_s=0.0, bulk_promotion_s=0.25, hold_until_queued=0)


def is_taken(queued_faces, remaining_s, face_count=8, load=None):
    estimate = ServiceEstimate()
    estimate.record_batch(BATCH_S)
    try:
        check_admission(
            face_count=face_count,
            byte_count=1,
            remaining_s=remaining_s,
            load=load or Load(queued_faces, 1, own_faces=queued_faces, caller_count=0, executor_idle=False),
            estimate=estimate,
            limits=LIMITS,
        )
    except DeadlineUnmeetableError:
        return False
    return True


@dataclass(eq=False)
class Call:
    enqueued_at: float
    remaining: int
    deadline: float | None = None
    unanswered: int = 0

    @property
    def due(self):
        return self.enqueued_at

    def __post_init__(self):
        self.unanswered = self.remaining


class OneCaller:
    quantum_left = 0

    def __init__(self, calls):
        self.interactive = calls
        self.bulk = ()


def next_batch(calls, now):
    """The next batch, and what waits without it."""
    batch = share_out(now, [OneCaller(calls)], RULES).takes
    for call, rows in batch:
        call.remaining -= rows
    return batch, [call for call in calls if call.remaining]


def overloaded(times_peak, face_count, *, seconds=5.0, deadline_s=1.0):
    """An executor that is always busy and calls at a steady rate: the times to the answers of those taken."""
    every_s = BATCH_S * face_count / LIMITS.max_batch_size / times_peak
    waiting, running, now, due, taken_s = [], [], 0.0, 0.0, []
    while now < seconds:
        while due < now + BATCH_S:
            if is_taken(sum(call.remaining for call in waiting), deadline_s, face_count):
                waiting.append(Call(due, face_count))
            due += every_s
        now += BATCH_S
        for call, rows in running:
            call.unanswered -= rows
            if not call.unanswered:
                taken_s.append(now - call.enqueued_at)
        running, waiting = next_batch(waiting, now)
    return taken_s


@pytest.mark.parametrize("times_peak", [2, 5, 10])
@pytest.mark.parametrize("face_count", [1, 8, 32])
def test_beyond_the_peak_every_call_that_is_taken_is_answered_in_time(times_peak, face_count):
    taken_s = overloaded(times_peak, face_count)

    assert max(taken_s) < 1.0
    assert len(taken_s) * face_count > 0.85 * 5.0 * LIMITS.max_batch_size / BATCH_S


@pytest.mark.parametrize("remaining_s", [0.2, 0.5, 1.0, 5.0])
def test_what_is_taken_is_answered_in_time_although_a_batch_has_just_begun(remaining_s):
    taken = [queued for queued in range(0, 4000, 8) if is_taken(queued, remaining_s)]

    longest_s = max(BATCH_S + math.ceil((queued + 8) / 32) * BATCH_S for queued in taken)
    assert longest_s < remaining_s


def test_a_queue_that_leaves_plenty_of_time_is_joined():
    assert is_taken(queued_faces=320, remaining_s=1.0)


def test_a_caller_with_little_in_the_queue_is_accepted_where_the_one_that_fills_it_is_not():
    hog = Load(2000, 1, own_faces=2000, caller_count=1, executor_idle=False)
    neighbour = Load(2000, 1, own_faces=0, caller_count=1, executor_idle=False)

    assert not is_taken(2000, remaining_s=0.5, load=hog)
    assert is_taken(2000, remaining_s=0.5, load=neighbour)


def test_one_caller_may_be_held_to_fewer_faces_than_the_queue_has_room_for():
    limits = replace(LIMITS, max_caller_faces=16)
    load = Load(12, 1, own_faces=12, caller_count=0, executor_idle=False)

    with pytest.raises(QueueFullError, match="max_queue_faces_per_caller"):
        check_admission(
            face_count=8, byte_count=1, remaining_s=None, load=load, estimate=ServiceEstimate(), limits=limits
        )


def test_headroom_grows_with_work_in_vain_rests_at_one_in_eleven_and_is_bounded():
    estimate = ServiceEstimate()
    estimate.record_batch(0.01)
    for _ in range(1000):
        estimate.record_answer(wasted=True)
    assert estimate.headroom_s == pytest.approx(0.08)

    for _ in range(10):
        estimate.record_answer(wasted=False)
    estimate.record_answer(wasted=True)
    assert estimate.headroom_s == pytest.approx(0.08)

    for _ in range(1000):
        estimate.record_answer(wasted=False)
    assert estimate.headroom_s == 0.0


def test_the_time_that_the_event_loop_takes_for_others_counts_as_waiting():
    estimate = ServiceEstimate()
    estimate.record_batch(0.01)
    load = Load(0, 1, own_faces=0, caller_count=0, executor_idle=False)
    before_s = estimate.latest_s(load, 1, LIMITS)
    for _ in range(100):
        estimate.record_lag(0.025)

    assert estimate.latest_s(load, 1, LIMITS) - before_s > 0.025


def test_no_headroom_lets_an_executor_run_dry():
    estimate = ServiceEstimate()
    estimate.record_batch(0.01)
    for _ in range(1000):
        estimate.record_answer(wasted=True)
    little, much = (Load(queued, 1, own_faces=queued, caller_count=0, executor_idle=False) for queued in (24, 40))

    assert estimate.latest_s(little, 8, LIMITS) < 0.04
    assert estimate.latest_s(much, 8, LIMITS) > 0.08
