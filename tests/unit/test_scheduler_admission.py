"""What may still be taken while everything is busy."""

import math
from dataclasses import dataclass

import pytest

from ferserve_server.domain.errors import DeadlineUnmeetableError
from ferserve_server.domain.ports import Priority
from ferserve_server.scheduler.admission import QueueLimits, ServiceRate, check_admission
from ferserve_server.scheduler.policy import CutRules, share_out

BATCH_S = 0.04
LIMITS = QueueLimits(max_faces=4096, max_bytes=2**30, max_batch_size=32, executor_count=1)
RULES = CutRules(max_batch_size=32, max_queue_delay_s=0.0, bulk_promotion_s=0.25, hold_until_queued=0)


def is_taken(queued_faces, remaining_s, face_count=8):
    rate = ServiceRate()
    rate.executed(BATCH_S)
    try:
        check_admission(
            face_count=face_count,
            byte_count=1,
            queued_faces=queued_faces,
            queued_bytes=1,
            remaining_s=remaining_s,
            executor_idle=False,
            rate=rate,
            limits=LIMITS,
        )
    except DeadlineUnmeetableError:
        return False
    return True


@dataclass
class Call:
    enqueued_at: float
    remaining: int
    priority: Priority = Priority.INTERACTIVE
    unanswered: int = 0

    def __post_init__(self):
        self.unanswered = self.remaining


def cut(calls, now):
    """The next batch, and what waits without it."""
    batch = [(call, rows) for call, rows in zip(calls, share_out(now, calls, RULES), strict=False) if rows]
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
        running, waiting = cut(waiting, now)
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
