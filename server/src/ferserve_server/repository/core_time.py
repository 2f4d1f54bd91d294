"""A clock that stands still while its thread waits for a core."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEDULER_FIGURES: Final = Path("/proc/thread-self/schedstat")
"""Of the thread that reads it: nanoseconds on a core, nanoseconds waited for one, and time slices (Linux,
Documentation/scheduler/sched-stats.rst). Reading it takes about 15 us."""


class _Elsewhere(threading.local):
    """What each thread was told of threads in other processes that worked for it."""

    waited_s = 0.0


_elsewhere: Final = _Elsewhere()


def core_time_s(
    now: Callable[[], float] = time.perf_counter, figures: Callable[[], str] = _SCHEDULER_FIGURES.read_text
) -> float:
    """Seconds that have passed, less those in which this thread was ready to run and had no core.

    What other processes take from it does not count. What it waits for does: a GPU, a lock, threads of its own.
    Unlike the processor time of the thread, this says how long a batch takes also where others compute it.
    Where the system does not tell, or the batch runs in other threads, it is the time that has passed; but for a
    thread in another process whose waiting `note_waited_elsewhere` was told.

    Only differences mean anything, and only within one thread.
    """
    waited_s = _waited_s(figures)
    while True:
        at = now()
        before_s, waited_s = waited_s, _waited_s(figures)
        if before_s == waited_s:  # no wait fell between the two readings, to be counted in one of them alone
            return at - waited_s - _elsewhere.waited_s


def waited_for_core_s() -> float:
    """Seconds that this thread was ready to run and had no core, so far; 0 where the system does not tell."""
    return _waited_s(_SCHEDULER_FIGURES.read_text)


def note_waited_elsewhere(seconds: float) -> None:
    """Has `core_time_s` of this thread leave out what another process waited for a core while it worked for it."""
    _elsewhere.waited_s += seconds


def _waited_s(figures: Callable[[], str]) -> float:
    try:
        return int(figures().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0
