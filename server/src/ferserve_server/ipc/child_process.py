"""Starts child processes and ties their lives to their parent's.

A child runs a Python module of this package and ends with its parent. Its main thread runs work for threads whose
priority was lowered.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferserve_server.ipc.channel import Channel


_LOWEST_PRIORITY: Final = 19

_F_SETSIG: Final = 10
"""F_SETSIG of fcntl.h; Python has no name for it."""

_LIFELINE: Final = 0
"""File descriptor of a pipe in a child, whose other end its parent holds: it replaces stdin."""

# fmt: off
_PASSED_VARIABLES: Final = frozenset((
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES",
))
_PASSED_PREFIXES: Final = (
    "LC_", "PYTHON", "MALLOC_", "JEMALLOC_", "TF_", "XLA_", "OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_",
    "OPENBLAS_", "CUDA_", "CUDNN_", "NVIDIA_", "NCCL_", "ORT_", "OV_", "OPENVINO_", "OPENCV_", "GRPC_", "ABSL_",
    "COVERAGE_",
)
# fmt: on
"""Prefixes of the environment variables that configure the libraries of a child. The rest of the environment may
hold secrets of the server and of others, and a model's code could read it."""


class Child:
    """Runs a module in a new Python interpreter (never a fork: gRPC and TensorFlow have threads).

    It has a process group of its own, so that Ctrl-C in a terminal reaches its parent alone, which then ends it in
    order. It should end when its channels close (`call_when_parent_ends`). It finds modules where this process
    does.

    The creator must `end` it, or `kill` and `wait`. Thread-safety: any thread.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        channels: Sequence[Channel],
        stderr: int | None = None,
        prefixes: tuple[str, ...] = (),
    ) -> None:
        """Starts the process.

        Args:
            module: Name of the module, as for `python -m`.
            arguments: Its command line after the file descriptors.
            channels: The ends that the child gets. Their file descriptors are its first arguments, and they
                are closed here.
            stderr: File descriptor of its stderr; None for that of this process.
            prefixes: Prefixes of further variables of the environment, for children that run no model's code.

        Raises:
            OSError: The system cannot start another process.
        """
        fds = [channel.fileno() for channel in channels]
        paths = [path for path in sys.path if path]
        self._closing = threading.Lock()
        lifeline, self._lifeline = os.pipe()
        try:
            # -P: not from the working directory, which may contain any file.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, *map(str, fds), *arguments],
                stdin=lifeline,
                stderr=stderr,
                pass_fds=fds,
                process_group=0,
                env={**child_environment(os.environ, prefixes), "PYTHONPATH": os.pathsep.join(paths)},
            )
        except BaseException:
            self._close_lifeline()
            raise
        finally:
            os.close(lifeline)
            for channel in channels:
                channel.close()

    @property
    def pid(self) -> int:
        """Returns its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Returns its exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kills it at once (SIGKILL), regardless of its work. Call `wait` afterwards."""
        self._process.kill()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for its end, and returns whether it came within `timeout_s` seconds. Blocking."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._close_lifeline()
        return True

    def end(self, grace_s: float) -> None:
        """Waits `grace_s` seconds for it to end by itself, its channels being closed; then kills it. Blocking."""
        if not self.wait(grace_s):
            self.kill()
            self.wait()

    def describe_end(self) -> str:
        """Describes how it ended, in words."""
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
        """Returns its resident memory, in bytes; 0 if unknown. Reads a small file: cheap."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - cheaper than a Path
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def cpu_s(self) -> float:
        """Returns the processor time that it has used, in seconds; 0 if unknown."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - as above
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return 0.0

    def run_delays_s(self) -> dict[str, float]:
        """Returns how long each of its threads has waited for a processor, in seconds; empty if unknown.

        Source: the second field of /proc/PID/task/TID/schedstat (docs.kernel.org/scheduler/sched-stats.html).
        """
        found = {}
        for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                found[path.parent.name] = int(path.read_text("ascii").split()[1]) / 1e9
        return found

    def _close_lifeline(self) -> None:
        with self._closing:
            fd, self._lifeline = self._lifeline, -1
        if fd >= 0:
            os.close(fd)


def child_environment(environment: Mapping[str, str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns the environment variables that a child gets; those with `prefixes` are among them."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED_VARIABLES or name.startswith((*_PASSED_PREFIXES, *prefixes))
    }


def die_with_parent() -> None:
    """Makes the system kill this process when its parent's end of the lifeline closes. Linux; elsewhere nothing.

    The kernel does it, so that a process ends even when all its threads wait for Python's lock, such as in an
    endless loop of native code. (PR_SET_PDEATHSIG would fire when the parent's *thread* ends.)
    """
    if sys.platform != "linux":
        return
    fcntl.fcntl(_LIFELINE, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(_LIFELINE, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETFL, fcntl.fcntl(_LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)
    gone = select.poll()
    gone.register(_LIFELINE, 0)
    if gone.poll(0):  # it ended before
        os._exit(0)


def prefer_for_oom(score: int) -> None:
    """Makes the system end this process, rather than its parent, when memory runs out.

    Args:
        score: 0 to 1000, added to the share of memory in thousandths that the system goes by (oom_score_adj).
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - no Path for /proc
        file.write(str(score))


def ignore_stop_signals() -> None:
    """Leaves signals to the parent, which ends its children once they are done. Main thread only.

    Supervisors such as systemd send them to every process of a service at once. SIGHUP, SIGUSR1 and SIGUSR2, which
    would end the process, mean nothing to a child.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def call_when_parent_ends(channel: Channel, callback: Callable[[], None]) -> None:
    """Waits, reading nothing, until the other end of a channel is closed, and calls back. Blocking.

    The system closes it however the process ends, so nothing stays behind after a `kill -9`.
    """
    hangup = select.poll()
    hangup.register(channel.fileno(), 0)  # a hang-up is reported whatever is requested
    hangup.poll()
    callback()


def lower_priority() -> None:
    """Gives the calling thread, and the threads that it starts, the lowest priority permanently.

    Linux has a priority for each thread and raises it again only with a privilege, so call it on threads
    that never serve. Elsewhere it does nothing.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)  # 0: the calling thread


class MainThread:
    """Runs work on the main thread, whose priority is never lowered.

    Threads inherit the priority of the thread that starts them.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()

    def run(self) -> None:
        """Runs submitted work indefinitely. Call it on the main thread."""
        while True:
            work, done = self._work.get()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                done.put(error)
            else:
                done.put(None)

    def do(self, work: Callable[[], None]) -> None:
        """Runs work on the main thread, and waits for it. Any other thread.

        Raises:
            BaseException: Any exception of `work`.
        """
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._work.put((work, done))
        error = done.get()
        if error is not None:
            raise error
