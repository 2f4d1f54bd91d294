"""Tests laws of every queue: nothing lost, nothing doubled, nothing out of order, no caller starved."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.caller import CallerId, CallerKind
from ferserve_server.domain.ports import DispatchReason, Priority
from ferserve_server.scheduler.admission import rows_to_displace
from ferserve_server.scheduler.entry import Entry
from ferserve_server.scheduler.policy import Dispatch, DispatchRules, Executors, decide, share_out
from ferserve_server.scheduler.queue import FairQueue
from support.batching import bench, faces

NOW = 50.0
sizes = st.lists(st.integers(1, 600), min_size=1, max_size=40)
priorities = st.sampled_from(Priority)
callers = st.integers(0, 5)


def entry(size, priority=Priority.INTERACTIVE, age_s=0.0, caller=0, deadline=None):
    crops = np.zeros((size, 1, 1, 1), np.uint8)
    who = CallerId(CallerKind.CONNECTION, str(caller))
    return Entry(crops, 7, asyncio.Future(loop=LOOP), priority, NOW - age_s, deadline, who)


def queue_of(entries):
    queue = FairQueue()
    for each in entries:
        queue.append(each)
    return queue


def next_batch(queue, rules, now=NOW, service_s=0.0):
    """What an idle executor gets: slices, and requests that are dropped."""
    decision = decide(now, queue.state(), Executors(idle=1, batches_ahead=0), rules, service_s)
    assert isinstance(decision, Dispatch)
    for late in decision.late:
        queue.drop(late)
    return queue.take(decision), decision.late


LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need one to belong to; none of these is awaited


@given(sizes, st.integers(1, 128), st.data())
def test_a_batch_is_as_full_as_it_can_be_and_never_fuller(wanted, max_batch_size, data):
    entries = [
        entry(size, data.draw(priorities), data.draw(st.floats(0, 1)), data.draw(callers)) for size in wanted
    ]

    takes = share_out(NOW, queue_of(entries).state().backlogs, DispatchRules(max_batch_size)).takes

    assert sum(count for _, count in takes) == min(sum(wanted), max_batch_size)
    assert all(1 <= count <= each.remaining for each, count in takes)
    assert len({id(each) for each, _ in takes}) == len(takes)


@given(st.dictionaries(st.integers(0, 9), sizes, min_size=1, max_size=8), st.integers(1, 128))
def test_no_caller_gets_more_than_a_quantum_beyond_one_that_still_waits(backlogs, max_batch_size):
    rules = DispatchRules(max_batch_size)
    queue = queue_of(entry(size, caller=caller) for caller, wanted in backlogs.items() for size in wanted)

    takes = share_out(NOW, queue.state().backlogs, rules).takes

    rows = dict.fromkeys(backlogs, 0)
    for each, count in takes:
        rows[int(each.caller.name)] += count
    unfinished = [rows[caller] for caller, wanted in backlogs.items() if rows[caller] < sum(wanted)]
    if unfinished:
        assert max(rows.values()) <= min(unfinished) + rules.quantum


@given(st.integers(2, 12), st.integers(1, 64), st.integers(1, 40), st.integers(1, 40))
def test_over_many_batches_callers_with_endless_work_get_the_same(caller_count, max_batch_size, size, batches):
    rules = DispatchRules(max_batch_size)
    queue = queue_of(entry(size, caller=caller) for caller in range(caller_count))
    rows = [0] * caller_count
    for _ in range(batches):
        for caller in range(caller_count):
            while queue.faces_of(CallerId(CallerKind.CONNECTION, str(caller))) < max_batch_size:
                queue.append(entry(size, caller=caller))
        for part in next_batch(queue, rules)[0]:
            rows[int(part.entry.caller.name)] += part.count

    assert max(rows) - min(rows) <= 2 * rules.quantum


@given(
    st.lists(st.tuples(st.integers(1, 60), priorities, callers), min_size=1, max_size=30),
    st.integers(1, 32),
)
def test_every_row_travels_once_in_order_whatever_the_mix(requests, max_batch_size):
    entries = [entry(size, priority, caller=caller) for size, priority, caller in requests]
    queue = queue_of(entries)
    travelled = {id(each): [] for each in entries}
    rules = DispatchRules(max_batch_size)

    batches = 0
    while queue:
        slices, _ = next_batch(queue, rules)
        assert 1 <= sum(part.count for part in slices) <= max_batch_size
        for part in slices:
            travelled[id(part.entry)] += range(part.start, part.start + part.count)
        batches += 1

    total = sum(size for size, _, _ in requests)
    assert all(travelled[id(each)] == list(range(len(each.crops))) for each in entries)
    assert batches == -(-total // max_batch_size)
    assert (queue.byte_count, queue.caller_count) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(1, 40), priorities, callers, st.booleans()), min_size=1, max_size=30),
    st.integers(1, 16),
)
def test_requests_that_leave_take_their_rows_with_them(requests, max_batch_size):
    entries = [entry(size, priority, caller=caller) for size, priority, caller, _ in requests]
    queue = queue_of(entries)
    for each, (*_, leaves) in zip(entries, requests, strict=True):
        if leaves:
            queue.drop(each)

    seen = set()
    while queue:
        seen |= {id(part.entry) for part in next_batch(queue, DispatchRules(max_batch_size))[0]}

    assert seen == {id(each) for each, (*_, leaves) in zip(entries, requests, strict=True) if not leaves}
    assert (queue.face_count, queue.byte_count, queue.caller_count) == (0, 0, 0)


@given(
    st.lists(st.tuples(st.integers(1, 40), callers, st.none() | st.floats(NOW, NOW + 1)), min_size=1, max_size=30),
    st.integers(1, 32),
    st.floats(0, 1),
)
def test_a_late_request_runs_only_if_there_is_no_other(requests, max_batch_size, service_s):
    entries = [entry(size, caller=caller, deadline=deadline) for size, caller, deadline in requests]
    is_late = {id(each): each.deadline is not None and each.deadline < NOW + service_s for each in entries}

    slices, dropped = next_batch(queue_of(entries), DispatchRules(max_batch_size), service_s=service_s)

    ran = {is_late[id(part.entry)] for part in slices}
    assert ran in ({False}, {True})
    assert ran == {False} or (all(is_late.values()) and not dropped)
    assert all(is_late[id(each)] for each in dropped)


@given(st.integers(0, 4096), st.integers(0, 4096), st.integers(1, 512), st.integers(1, 512))
def test_displacing_never_leaves_a_caller_with_less_than_the_one_it_gives_way_to(own, largest, wanted, missing):
    given_up = rows_to_displace(own, largest, wanted, missing)

    assert given_up in (0, missing)
    assert given_up == 0 or largest - given_up >= own + wanted


@given(st.integers(1, 40), st.integers(1, 16))
def test_bulk_work_is_served_in_time_under_endless_interactive_load(bulk_size, max_batch_size):
    """Each step a batch is cut and a batch's worth of interactive work comes in."""
    rules = DispatchRules(max_batch_size, bulk_promotion_s=0.25)
    queue = FairQueue()
    bulk = entry(bulk_size, Priority.BULK)
    queue.append(bulk)
    now = NOW
    for _ in range(10 + 2 * bulk_size):
        fresh = entry(max_batch_size)
        fresh.enqueued_at = now
        queue.append(fresh)
        next_batch(queue, rules, now)
        now += 0.05

    assert bulk.remaining == 0


@given(
    deadlines=st.lists(st.one_of(st.none(), st.floats(NOW - 1, NOW + 1)), min_size=1, max_size=20),
)
def test_exactly_those_past_their_deadline_expire(deadlines):
    queue = FairQueue()
    entries = []
    for deadline in deadlines:
        each = entry(2)
        each.deadline = deadline
        entries.append(each)
        queue.append(each)

    expired = {id(each) for each in queue.pop_expired(NOW)}

    assert expired == {id(each) for each in entries if each.deadline is not None and each.deadline <= NOW}
    assert queue.face_count == 2 * (len(entries) - len(expired))
    later = [each.deadline for each in entries if each.deadline is not None and each.deadline > NOW]
    assert queue.next_deadline() == min(later, default=None)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(0, 11))
def test_halving_a_batch_keeps_every_row_in_order(counts, cut):
    from ferserve_server.scheduler.entry import Batch, Slice  # noqa: PLC0415 - only here

    request = entry(sum(counts))
    slices, start = [], 0
    for count in counts:
        slices.append(Slice(request, start, count))
        start += count
    batch = Batch(slices, DispatchReason.FULL, NOW)

    left, right = batch.halves(DispatchReason.BISECT)

    rows = [row for part in left.slices + right.slices for row in range(part.start, part.start + part.count)]
    assert rows == list(range(sum(counts)))
    assert left.row_count == sum(counts) // 2


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=15),
    st.integers(1, 3),
    st.sets(st.integers(0, 14)),
)
def test_every_caller_gets_its_own_scores_and_those_who_leave_disturb_nobody(counts, executor_count, leaving):
    async def scenario():
        async with bench(executor_count=executor_count) as made:
            crops = [faces(count, first=7 * i) for i, count in enumerate(counts)]
            tasks = [asyncio.ensure_future(made.batcher.score(each)) for each in crops]
            await asyncio.sleep(0)
            for i in leaving & set(range(len(tasks))):
                tasks[i].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for i, answer in enumerate(answers):
                if i in leaving:
                    continue
                assert np.array_equal(answer.scores, fake_scores(crops[i], 7))

    asyncio.run(scenario())
