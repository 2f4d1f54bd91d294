"""Tests processes that work together, as real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path

import pytest

from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import Child
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout

LONG_S = 60.0


@contextlib.contextmanager
def child(mode="answer"):
    ours, theirs = Channel.pair()
    process = Child("support.child_modules", [mode], [theirs])
    try:
        yield process, ours
    finally:
        ours.close()
        process.end(LONG_S if mode == "answer" else 0)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition):
    give_up_at = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_a_child_works_on_shared_memory_and_answers():
    block = SharedBlock.create(SlotLayout(1, 48 * 48, 7 * 4))
    block.faces(0, (1, 48, 48, 1))[:] = 1
    with child() as (_, channel):
        channel.send(" ".join(map(str, astuple(block.layout))).encode(), [block.fd])
        assert channel.receive().startswith(b"done")

    assert (block.scores(0, (1, 7)) == 48 * 48).all()
    block.close()


def test_a_child_ends_when_its_channel_closes():
    with child() as (process, channel):
        channel.send(b"hello")
        channel.receive()
        channel.close()

        assert process.wait(LONG_S)
        assert process.exit_code == 0
        assert process.describe_end() == "exit code 0"


def test_stop_signals_leave_a_child_alone_and_the_terminals_do_not_reach_it():
    with child() as (process, channel):
        channel.send(b"ready?")
        channel.receive()
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        channel.send(b"still there?")

        assert channel.receive() == b"done still there?"
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
        assert process.describe_end() == "it runs"
        assert process.resident_bytes() > 2**20


@pytest.mark.parametrize(
    ("number", "reported"), [(signal.SIGKILL, "SIGKILL, as when memory"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_the_end_of_a_child_is_reported_on_its_channel(number, reported):
    with child("answer" if number == signal.SIGKILL else "crash") as (process, channel):
        if number == signal.SIGKILL:
            process.kill()

        with pytest.raises(ChannelClosedError):
            channel.receive()
        assert process.wait(LONG_S)
        assert process.describe_end().startswith(reported)
        assert process.resident_bytes() == 0


def test_a_child_that_does_not_end_is_killed_after_its_grace():
    with child("deaf") as (process, channel):
        channel.close()
        process.end(0.1)

        assert process.exit_code == -signal.SIGKILL


PARENT = """
from ferserve_server.ipc.channel import Channel
from ferserve_server.ipc.child_process import Child
ours, theirs = Channel.pair()
child = Child("support.child_modules", ["answer"], [theirs])
ours.send(b"x")
ours.receive()
print(child.pid, flush=True)
ours.receive()
"""


def test_no_child_stays_behind_when_its_parent_is_killed():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()

    wait_until(lambda: is_gone(pid))


def test_only_the_thread_that_gives_way_and_those_it_starts_do():
    with child() as (_, channel):
        channel.send(b"nice")

        assert channel.receive() == f"19 19 {os.getpriority(os.PRIO_PROCESS, 0)}".encode()
