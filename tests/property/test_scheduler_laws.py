"""What holds for every queue: nothing lost, nothing doubled, nothing out of order, nobody starved."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.ports import CutReason, Priority
from ferserve_server.scheduler.entry import Entry
from ferserve_server.scheduler.policy import CutRules, Dispatch, Executors, decide, share_out
from ferserve_server.scheduler.queue import EntryQueue
from support.batching import bench, faces

NOW = 50.0
sizes = st.lists(st.integers(1, 600), min_size=1, max_size=40)
priorities = st.sampled_from(Priority)


def entry(size, priority=Priority.INTERACTIVE, age_s=0.0):
    return Entry(np.zeros((size, 1, 1, 1), np.uint8), 7, asyncio.Future(loop=LOOP), priority, NOW - age_s)


LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need one to belong to; none of these is awaited


@given(sizes, st.integers(1, 128), st.data())
def test_a_batch_is_as_full_as_it_can_be_and_never_fuller(wanted, max_batch_size, data):
    queue = [entry(size, data.draw(priorities), data.draw(st.floats(0, 1))) for size in wanted]

    shares = share_out(NOW, queue, CutRules(max_batch_size))

    assert sum(shares) == min(sum(wanted), max_batch_size)
    assert all(0 <= share <= size for share, size in zip(shares, wanted, strict=False))


@given(sizes, st.integers(1, 128))
def test_nobody_gets_more_than_one_row_beyond_an_unfinished_older_neighbour(wanted, max_batch_size):
    shares = share_out(NOW, [entry(size) for size in wanted], CutRules(max_batch_size))

    unfinished = [share for share, size in zip(shares, wanted, strict=False) if share < size]
    if unfinished:
        assert max(shares) <= min(unfinished) + 1


@given(
    st.lists(st.tuples(st.integers(1, 60), priorities), min_size=1, max_size=30),
    st.integers(1, 32),
)
def test_every_row_travels_once_in_order_whatever_the_mix(requests, max_batch_size):
    queue = EntryQueue()
    entries = [entry(size, priority) for size, priority in requests]
    for each in entries:
        queue.append(each)
    travelled = {id(each): [] for each in entries}
    rules = CutRules(max_batch_size)

    batches = 0
    while queue:
        decision = decide(NOW, queue.entries, queue.face_count, Executors(idle=1, batches_ahead=0), rules)
        assert isinstance(decision, Dispatch)
        slices = queue.take(decision.row_counts)
        assert 1 <= sum(part.count for part in slices) <= max_batch_size
        for part in slices:
            travelled[id(part.entry)] += range(part.start, part.start + part.count)
        batches += 1

    total = sum(size for size, _ in requests)
    assert all(travelled[id(each)] == list(range(len(each.crops))) for each in entries)
    assert batches == -(-total // max_batch_size)
    assert queue.byte_count == 0


@given(
    st.lists(st.tuples(st.integers(1, 40), priorities, st.booleans()), min_size=1, max_size=30),
    st.integers(1, 16),
)
def test_requests_that_leave_take_their_rows_with_them(requests, max_batch_size):
    queue = EntryQueue()
    entries = [entry(size, priority) for size, priority, _ in requests]
    for each in entries:
        queue.append(each)
    for each, (_, _, leaves) in zip(entries, requests, strict=True):
        if leaves:
            queue.drop(each)

    seen = set()
    while queue:
        decision = decide(
            NOW, queue.entries, queue.face_count, Executors(idle=1, batches_ahead=0), CutRules(max_batch_size)
        )
        seen |= {id(part.entry) for part in queue.take(decision.row_counts)}

    assert seen == {id(each) for each, (_, _, leaves) in zip(entries, requests, strict=True) if not leaves}
    assert (queue.face_count, queue.byte_count) == (0, 0)


@given(st.integers(1, 40), st.integers(1, 16))
def test_bulk_work_is_served_in_time_under_endless_interactive_load(bulk_size, max_batch_size):
    """Each step a batch is cut and a batch's worth of interactive work comes in."""
    rules = CutRules(max_batch_size, bulk_promotion_s=0.25)
    queue = EntryQueue()
    bulk = entry(bulk_size, Priority.BULK)
    queue.append(bulk)
    now = NOW
    for _ in range(10 + 2 * bulk_size):
        fresh = entry(max_batch_size)
        fresh.enqueued_at = now
        queue.append(fresh)
        decision = decide(now, queue.entries, queue.face_count, Executors(idle=1, batches_ahead=0), rules)
        queue.take(decision.row_counts)
        now += 0.05

    assert bulk.remaining == 0


@given(
    deadlines=st.lists(st.one_of(st.none(), st.floats(NOW - 1, NOW + 1)), min_size=1, max_size=20),
)
def test_exactly_those_past_their_deadline_expire(deadlines):
    queue = EntryQueue()
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

    owner = entry(sum(counts))
    slices, start = [], 0
    for count in counts:
        slices.append(Slice(owner, start, count))
        start += count
    batch = Batch(slices, CutReason.FULL, NOW)

    left, right = batch.halves(CutReason.BISECT)

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
