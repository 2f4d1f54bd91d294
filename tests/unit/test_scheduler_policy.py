"""The rules of the batcher, as tables."""

from dataclasses import dataclass

import pytest

from ferserve_server.domain.ports import CutReason, Priority
from ferserve_server.scheduler.policy import CutRules, Dispatch, Executors, WaitUntil, decide, share_out

NOW = 100.0
IDLE = Executors(idle=1, batches_ahead=0)
BUSY = Executors(idle=0, batches_ahead=0)
BUSY_WITH_ONE_AHEAD = Executors(idle=0, batches_ahead=1)
RULES = CutRules(max_batch_size=8, bulk_promotion_s=0.25)


@dataclass
class Waits:
    remaining: int
    priority: Priority = Priority.INTERACTIVE
    enqueued_at: float = NOW


def ask(sizes, executors=IDLE, rules=RULES, age_s=0.0):
    queue = [Waits(size, enqueued_at=NOW - age_s) for size in sizes]
    return decide(NOW, queue, sum(sizes), executors, rules)


@pytest.mark.parametrize(
    ("sizes", "executors", "expected"),
    [
        ([], IDLE, WaitUntil()),
        ([1], IDLE, Dispatch((1,), CutReason.EXECUTOR_IDLE)),
        ([1, 2, 3], IDLE, Dispatch((1, 2, 3), CutReason.EXECUTOR_IDLE)),
        ([8], IDLE, Dispatch((8,), CutReason.FULL)),
        ([20], IDLE, Dispatch((8,), CutReason.FULL)),
        ([7], BUSY, WaitUntil()),
        ([8], BUSY, Dispatch((8,), CutReason.FULL)),
        ([8], BUSY_WITH_ONE_AHEAD, WaitUntil()),
    ],
)
def test_an_idle_executor_takes_what_waits_and_a_busy_one_gets_one_full_batch_ahead(sizes, executors, expected):
    assert ask(sizes, executors) == expected


def test_a_delay_holds_a_small_batch_until_the_oldest_face_has_waited_long_enough():
    rules = CutRules(max_batch_size=8, max_queue_delay_s=0.005)

    assert ask([3], rules=rules, age_s=0.002) == WaitUntil(pytest.approx(NOW + 0.003))
    assert ask([3], rules=rules, age_s=0.005) == Dispatch((3,), CutReason.DELAY)


def test_a_delay_does_not_hold_a_full_batch():
    rules = CutRules(max_batch_size=8, max_queue_delay_s=0.005)

    assert ask([3, 5], rules=rules) == Dispatch((3, 5), CutReason.FULL)


def test_holding_cuts_nothing_before_enough_faces_wait():
    rules = CutRules(max_batch_size=8, hold_until_queued=4)

    assert ask([3], rules=rules) == WaitUntil()
    assert ask([3, 1], rules=rules) == Dispatch((3, 1), CutReason.EXECUTOR_IDLE)


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ([512, 1, 1], (6, 1, 1)),
        ([1, 512, 1], (1, 6, 1)),
        ([512, 512], (4, 4)),
        ([512, 512, 512], (3, 3, 2)),
        ([512, 2, 512], (3, 2, 3)),
        ([1] * 12, (1,) * 8),
        ([0, 5, 0, 2], (0, 5, 0, 2)),
    ],
)
def test_a_large_request_gets_what_small_ones_leave(sizes, shares):
    assert share_out(NOW, [Waits(size) for size in sizes], RULES) == shares


def test_bulk_work_gets_only_the_rows_that_interactive_work_leaves():
    queue = [Waits(8, Priority.BULK), Waits(3), Waits(2)]

    assert share_out(NOW, queue, RULES) == (3, 3, 2)


def test_bulk_work_that_has_waited_long_counts_as_interactive():
    queue = [Waits(8, Priority.BULK, NOW - 0.25), Waits(8)]

    assert share_out(NOW, queue, RULES) == (4, 4)


FEW = CutRules(max_batch_size=32, few_rows=8)


@pytest.mark.parametrize(
    ("queued", "running", "waits"),
    [(1, 1, True), (7, 1, True), (7, 3, True), (8, 1, False), (1, 0, False)],
)
def test_a_few_rows_wait_while_others_run(queued, running, waits):
    executors = Executors(idle=1, batches_ahead=0, running=running)

    decision = ask([queued], executors, FEW, age_s=0.0005)

    at_once = Dispatch((queued,), CutReason.EXECUTOR_IDLE)
    assert decision == (WaitUntil(pytest.approx(NOW + 0.0015)) if waits else at_once)


def test_a_few_rows_do_not_wait_for_ever_for_others_that_hang():
    executors = Executors(idle=1, batches_ahead=0, running=1)

    assert ask([1], executors, FEW, age_s=0.002) == Dispatch((1,), CutReason.EXECUTOR_IDLE)


def test_no_rows_wait_for_others_where_each_costs_more_than_a_batch_does():
    executors = Executors(idle=1, batches_ahead=0, running=1)

    assert ask([1], executors, CutRules(32, few_rows=1)) == Dispatch((1,), CutReason.EXECUTOR_IDLE)
