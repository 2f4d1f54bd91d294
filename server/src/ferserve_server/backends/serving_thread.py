"""The thread of this process that makes what serves callers.

Threads inherit the priority of the one that makes them, and engines compute on threads of their own: TensorFlow
has some for every session. In an engine process versions are loaded and tried on a thread that gives way to live
traffic; what serves is made on the main thread, which does not.
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
    """Names the thread, by what has it do something and waits for it. Once, when a process starts."""
    global _on_thread  # noqa: PLW0603 - a fact of the process, as its main thread is
    _on_thread = on_thread


def run_at_serving_priority(make: Callable[[], Made]) -> Made:
    """What `make` returns on that thread; on this one, if none was named."""
    made: list[Made] = []
    _on_thread(lambda: made.append(make()))
    return made[0]


def priority() -> int:
    """The priority of this thread; where threads have none of their own, that of the process."""
    return os.getpriority(os.PRIO_PROCESS, 0)
