"""Tests the rules of the batcher, as tables."""

from dataclasses import dataclass

import pytest

from ferserve_server.domain.ports import DispatchReason, Priority
from ferserve_server.scheduler.policy import DispatchRules, Executors, QueueState, WaitUntil, decide, share_out

NOW = 100.0
IDLE = Executors(idle=1, batches_ahead=0)
BUSY = Executors(idle=0, batches_ahead=0)
BUSY_WITH_ONE_AHEAD = Executors(idle=0, batches_ahead=1)
RULES = DispatchRules(max_batch_size=8, bulk_promotion_s=0.25)


@dataclass(eq=False)
class Waits:
    remaining: int
    priority: Priority = Priority.INTERACTIVE
    enqueued_at: float = NOW
    deadline: float | None = None

    @property
    def due(self):
        return self.enqueued_at + 1.0


class Caller:
    """Requests of one caller, in the order of service."""

    quantum_left = 0

    def __init__(self, *requests):
        self.interactive = [each for each in requests if each.priority is Priority.INTERACTIVE]
        self.bulk = [each for each in requests if each.priority is Priority.BULK]


def queue_of(*callers, oldest_at=NOW):
    rows = sum(each.remaining for caller in callers for each in (*caller.interactive, *caller.bulk))
    return QueueState(callers, rows, oldest_at)


def ask(sizes, executors=IDLE, rules=RULES, age_s=0.0):
    """What is decided on requests of one caller: the rows and the reason, or until when it waits."""
    queue = queue_of(Caller(*(Waits(size) for size in sizes)), oldest_at=NOW - age_s)
    decision = decide(NOW, queue, executors, rules)
    if isinstance(decision, WaitUntil):
        return decision
    assert not decision.late
    return tuple(count for _, count in decision.takes), decision.reason


def shares(*callers, rules=RULES, service_s=0.0):
    """The rows of each request, caller by caller."""
    counts = dict(share_out(NOW, callers, rules, service_s=service_s).takes)
    return [[counts.get(each, 0) for each in (*caller.interactive, *caller.bulk)] for caller in callers]


@pytest.mark.parametrize(
    ("sizes", "executors", "expected"),
    [
        ([], IDLE, WaitUntil()),
        ([1], IDLE, ((1,), DispatchReason.EXECUTOR_IDLE)),
        ([1, 2, 3], IDLE, ((1, 2, 3), DispatchReason.EXECUTOR_IDLE)),
        ([8], IDLE, ((8,), DispatchReason.FULL)),
        ([20], IDLE, ((8,), DispatchReason.FULL)),
        ([7], BUSY, WaitUntil()),
        ([8], BUSY, ((8,), DispatchReason.FULL)),
        ([8], BUSY_WITH_ONE_AHEAD, WaitUntil()),
    ],
)
def test_an_idle_executor_takes_what_waits_and_a_busy_one_gets_one_full_batch_ahead(sizes, executors, expected):
    assert ask(sizes, executors) == expected


def test_a_delay_holds_a_small_batch_until_the_oldest_face_has_waited_long_enough():
    rules = DispatchRules(max_batch_size=8, max_queue_delay_s=0.005)

    assert ask([3], rules=rules, age_s=0.002) == WaitUntil(pytest.approx(NOW + 0.003))
    assert ask([3], rules=rules, age_s=0.005) == ((3,), DispatchReason.DELAY)


def test_a_delay_does_not_hold_a_full_batch():
    rules = DispatchRules(max_batch_size=8, max_queue_delay_s=0.005)

    assert ask([3, 5], rules=rules) == ((3, 5), DispatchReason.FULL)


def test_holding_dispatches_nothing_before_enough_faces_wait():
    rules = DispatchRules(max_batch_size=8, hold_until_queued=4)

    assert ask([3], rules=rules) == WaitUntil()
    assert ask([3, 1], rules=rules) == ((3, 1), DispatchReason.EXECUTOR_IDLE)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([512, 1, 1], [6, 1, 1]),
        ([1, 512, 1], [1, 6, 1]),
        ([512, 512], [6, 2]),  # the first one sooner, the second not held up by it
        ([1] * 12, [1] * 8 + [0] * 4),
        ([2] * 6, [2, 2, 2, 2, 0, 0]),
        ([0, 5, 0, 2], [0, 5, 0, 2]),
    ],
)
def test_requests_of_one_caller_travel_whole_and_a_large_one_does_not_hold_up_small_ones(sizes, expected):
    assert shares(Caller(*(Waits(size) for size in sizes))) == [expected]


@pytest.mark.parametrize(
    ("backlogs", "expected"),
    [
        ([[8] * 200, [1]], [7, 1]),
        ([[8] * 200, [8]], [4, 4]),
        ([[8] * 200, [8] * 200, [2]], [4, 2, 2]),  # two rows each, and the first caller again
        ([[2], [2], [2], [2], [2]], [2, 2, 2, 2, 0]),
        ([[512], [3], [8] * 9], [4, 2, 2]),
    ],
)
def test_callers_get_equal_shares_however_many_requests_they_have(backlogs, expected):
    made = shares(*(Caller(*(Waits(size) for size in sizes)) for sizes in backlogs))

    assert [sum(rows) for rows in made] == expected


def test_bulk_work_gets_only_the_rows_that_interactive_work_leaves():
    bulk, busy = Caller(Waits(8, Priority.BULK)), Caller(Waits(3), Waits(2))

    assert shares(bulk, busy) == [[3], [3, 2]]


def test_bulk_work_that_has_waited_long_counts_as_interactive():
    bulk, busy = Caller(Waits(8, Priority.BULK, NOW - 0.25)), Caller(Waits(8))

    assert shares(bulk, busy) == [[4], [4]]


def test_a_request_that_can_no_longer_be_answered_in_time_gives_way_to_one_that_can():
    late, in_time, patient = Waits(4, deadline=NOW + 0.01), Waits(4, deadline=NOW + 0.03), Waits(4)

    decision = decide(NOW, queue_of(Caller(late, in_time, patient)), IDLE, RULES, service_s=0.02)

    assert decision.takes == ((in_time, 4), (patient, 4))
    assert decision.late == (late,)


@pytest.mark.parametrize("size", [2, 8])
def test_requests_that_are_all_late_run_for_the_estimate_may_be_stale(size):
    late = [Waits(size, deadline=NOW + 0.01), Waits(size, deadline=NOW + 0.015)]

    decision = decide(NOW, queue_of(Caller(*late)), IDLE, RULES, service_s=0.02)

    assert decision.late == ()
    assert sum(count for _, count in decision.takes) == min(2 * size, 8)


FEW = DispatchRules(max_batch_size=32, min_concurrent_rows=8)


@pytest.mark.parametrize(
    ("queued", "running", "waits"),
    [(1, 1, True), (7, 1, True), (7, 3, True), (8, 1, False), (1, 0, False)],
)
def test_a_few_rows_wait_while_others_run(queued, running, waits):
    executors = Executors(idle=1, batches_ahead=0, running=running)

    decision = ask([queued], executors, FEW, age_s=0.0005)

    at_once = ((queued,), DispatchReason.EXECUTOR_IDLE)
    assert decision == (WaitUntil(pytest.approx(NOW + 0.0015)) if waits else at_once)


def test_a_few_rows_do_not_wait_indefinitely_for_others_that_hang():
    executors = Executors(idle=1, batches_ahead=0, running=1)

    assert ask([1], executors, FEW, age_s=0.002) == ((1,), DispatchReason.EXECUTOR_IDLE)


def test_no_rows_wait_for_others_where_each_costs_more_than_a_batch_does():
    executors = Executors(idle=1, batches_ahead=0, running=1)

    assert ask([1], executors, DispatchRules(32, min_concurrent_rows=1)) == ((1,), DispatchReason.EXECUTOR_IDLE)
