"""Runs the children of the interprocess tests: `python -m support.child_modules FD MODE`."""

from __future__ import annotations

import os
import signal
import sys
import threading

from ferserve_server.ipc.channel import Channel, ChannelClosedError
from ferserve_server.ipc.child_process import call_when_parent_ends, ignore_stop_signals, lower_priority
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout


def main(fd: int, mode: str) -> None:
    """Answers until the channel closes, or does what `mode` says."""
    channel = Channel.from_fd(fd)
    if mode == "deaf":  # notices nothing, as an engine that hangs
        signal.pause()
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    ignore_stop_signals()
    threading.Thread(target=_answer, args=(channel,), daemon=True).start()
    call_when_parent_ends(channel, lambda: os._exit(0))


def _answer(channel: Channel) -> None:
    try:
        while True:
            message, fds = channel.receive_with_fds()
            for fd in fds:
                block = SharedBlock(fd, SlotLayout(*map(int, message.split())))
                block.scores(0, (1, 7))[:] = block.faces(0, (1, 48, 48, 1)).sum()
                block.close()
            if message == b"nice":
                lower_priority()
                started = threading.Thread(target=_answer, args=(channel,), daemon=True)
                started.start()
                mine = os.getpriority(os.PRIO_PROCESS, 0)
                theirs = os.getpriority(os.PRIO_PROCESS, started.native_id or 0)
                channel.send(f"{mine} {theirs} {os.getpriority(os.PRIO_PROCESS, os.getpid())}".encode())
            else:
                channel.send(b"done " + message)
    except ChannelClosedError:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
