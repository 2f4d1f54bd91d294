"""Runs work on the thread of this process that has serving priority.

Threads inherit the priority of the thread that starts them, and engines compute on threads of their own:
TensorFlow has some for every session. In an engine process versions are loaded and validated on a thread that
yields to live traffic; serving threads are started on the main thread, which does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    OnThread = Callable[[Callable[[], None]], None]

Made = TypeVar("Made")


def _here(work: Callable[[], None]) -> None:
    work()


_on_thread: OnThread = _here


def make_on(on_thread: OnThread) -> None:
    """Sets the function that runs work on that thread and waits for it. Once, when a process starts."""
    global _on_thread  # noqa: PLW0603 - a fact of the process, as its main thread is
    _on_thread = on_thread


def run_at_serving_priority(make: Callable[[], Made]) -> Made:
    """Returns the result of `make` on that thread; on this one, if none was set."""
    made: list[Made] = []
    _on_thread(lambda: made.append(make()))
    return made[0]


def priority() -> int:
    """Returns the priority of this thread; where threads have none of their own, that of the process."""
    return os.getpriority(os.PRIO_PROCESS, 0)
