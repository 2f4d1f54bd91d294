"""Sets the priority of the threads that read pictures."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

NICENESS: Final = 5
"""Niceness beside the rest of the server: a third of its share of a busy core. Faces that wait for scores, and
answers, go before the next picture, because they are nearer to their callers."""


def lower_priority() -> None:
    """Lowers the priority of the calling thread. Linux only: elsewhere it would be the process's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
