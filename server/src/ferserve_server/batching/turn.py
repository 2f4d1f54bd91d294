"""Requests that arrive together go into a batch together.

gRPC wakes the tasks of all requests that it has read in the same turn of the event loop. Cut one by one, each was a
batch of its own for a fast model: of 32 callers' requests 60% ran alone, and cost 1.9 times the processor time of an
empty server (benchmarks/hot_path.py). So batches are cut when the turn is over, which is some microseconds later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class EndOfTurn:
    """Calls back once when this turn of the event loop is over, however often it is asked to. Event loop only.

    Attributes:
        asked: Whether it will.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self.asked = False

    def ask(self) -> None:
        """Makes it call back."""
        if not self.asked:
            self.asked = True
            self._loop.call_soon(self._over)

    def _over(self) -> None:
        self.asked = False
        self._callback()
