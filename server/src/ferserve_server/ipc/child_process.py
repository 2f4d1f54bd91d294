"""Starts child processes and ties their lives to their parent's.

Starts a Python process of our own, and makes sure that neither outlives its use.

What a process's main thread does for its others.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.ipc.channel import Channel


_LOWEST_PRIORITY: Final = 19


class Child:
    """A new Python interpreter that runs a module of ours (never a fork: gRPC and TensorFlow have threads).

    It has a process group of its own, so that Ctrl-C in a terminal reaches its parent alone, which then ends it in
    good order. It should end when its channels close (`call_when_parent_gone`). It finds modules where this
    process does.

    Whoever makes it must `end` it, or `kill` and `wait`. Thread-safety: any thread.
    """

    def __init__(self, module: str, arguments: Sequence[str], channels: Sequence[Channel]) -> None:
        """Starts the process.

        Args:
            module: Name of the module, as for `python -m`.
            arguments: Its command line after the file descriptors.
            channels: The ends that are to be the child's. Their file descriptors are its first arguments, and they
                are closed here.

        Raises:
            OSError: The system cannot start another process.
        """
        fds = [channel.fileno() for channel in channels]
        paths = [path for path in sys.path if path]
        try:
            # -P: not from the working directory, where anything may lie.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, *map(str, fds), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        finally:
            for channel in channels:
                channel.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Ends it at once (SIGKILL), whatever it does. Call `wait` afterwards."""
        self._process.kill()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for its end, and returns whether it came within `timeout_s` seconds. Blocking."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, grace_s: float) -> None:
        """Waits `grace_s` seconds for it to end by itself, its channels being closed; then kills it. Blocking."""
        if not self.wait(grace_s):
            self.kill()
            self.wait()

    def describe_end(self) -> str:
        """How it ended, as a person would say it."""
        code = self.exit_code
        if code is None:
            return "it runs"
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, as when memory runs out" if -code == signal.SIGKILL else name

    def resident_bytes(self) -> int:
        """Memory that it holds, in bytes; 0 where that is not known. Reads a small file: cheap."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - cheaper than a Path
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0


def ignore_stop_signals() -> None:
    """Leaves SIGTERM and SIGINT to the parent, which ends its children once they are done. Main thread only.

    Supervisors such as systemd send them to every process of a service at once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def call_when_parent_gone(channel: Channel, callback: Callable[[], None]) -> None:
    """Waits, reading nothing, until the other end of a channel is closed, and calls back. Blocking.

    The system closes it however the process ends, so nothing stays behind after a `kill -9`.
    """
    hangup = select.poll()
    hangup.register(channel.fileno(), 0)  # a hang-up is told whatever is asked for
    hangup.poll()
    callback()


def give_way() -> None:
    """Gives the calling thread, and the threads that it will start, the lowest priority. It stays so.

    Linux has a priority for each thread and lets nobody raise it again without a privilege, so call it on threads
    that never serve. Elsewhere it does nothing.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)  # 0: the calling thread


class MainThread:
    """Has the main thread do things, whose priority is never lowered: threads inherit that of their maker."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()

    def run(self) -> None:
        """Does what others ask for, for ever. Call it on the main thread."""
        while True:
            work, done = self._work.get()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                done.put(error)
            else:
                done.put(None)

    def do(self, work: Callable[[], None]) -> None:
        """Has something done, and waits for it. Any other thread.

        Raises:
            BaseException: What `work` raised.
        """
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._work.put((work, done))
        error = done.get()
        if error is not None:
            raise error
