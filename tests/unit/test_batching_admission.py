"""What may still be taken while everything is busy."""

import math

import pytest

from ferserve_server.batching.admission import QueueLimits, ServiceRate, check_admission
from ferserve_server.domain.errors import DeadlineUnmeetableError

BATCH_S = 0.04
LIMITS = QueueLimits(max_faces=4096, max_bytes=2**30, max_batch_size=32, executor_count=1)


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


@pytest.mark.parametrize("remaining_s", [0.2, 0.5, 1.0, 5.0])
def test_what_is_taken_is_answered_in_time_although_a_batch_has_just_begun(remaining_s):
    taken = [queued for queued in range(0, 4000, 8) if is_taken(queued, remaining_s)]

    longest_s = max(BATCH_S + math.ceil((queued + 8) / 32) * BATCH_S for queued in taken)
    assert longest_s < remaining_s


def test_a_queue_that_leaves_plenty_of_time_is_joined():
    assert is_taken(queued_faces=320, remaining_s=1.0)
