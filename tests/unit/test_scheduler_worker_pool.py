"""Tests that the pool hands work over once, in order, and to the most recently used thread."""

import threading

import pytest

from ferserve_server.scheduler.worker_pool import LifoWorkQueue


class Worker:
    """A thread that takes work, notes it, and says when it waits for more."""

    def __init__(self, line, taken):
        self._line = line
        self._taken = taken
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while (work := self._line.get()) is not None:
            self._taken.append((self, work))
            work.set()


def wait_until_idle(line, count):
    """Returns when `count` threads wait; they come to it by themselves."""
    for _ in range(100_000):
        with line._lock:
            if len(line._idle) == count:
                return
    pytest.fail("the threads did not come to wait")


def put_and_wait(line):
    work = threading.Event()
    line.put(work)
    assert work.wait(10)


def test_one_caller_alone_always_meets_the_same_thread():
    line, taken = LifoWorkQueue(), []
    workers = [Worker(line, taken) for _ in range(3)]
    for _ in range(20):
        wait_until_idle(line, 3)
        put_and_wait(line)

    assert len({worker for worker, _ in taken}) == 1
    for _ in workers:
        line.put(None)


def test_work_that_finds_nobody_waits_in_order():
    line = LifoWorkQueue()
    for number in range(5):
        line.put(number)

    assert [line.get() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_none_ends_one_thread_each_after_the_work_before_it():
    line, taken = LifoWorkQueue(), []
    works = [threading.Event() for _ in range(4)]
    for work in works:
        line.put(work)
    for _ in range(2):
        line.put(None)
    workers = [Worker(line, taken) for _ in range(2)]
    for worker in workers:
        worker.thread.join(10)

    assert not any(worker.thread.is_alive() for worker in workers)
    assert {work for _, work in taken} == set(works)
