"""Requests that arrive together go into a batch together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class EndOfTurn:
    """Calls back once when this turn of the event loop is over, however often it is asked to. Event loop only.

    A turn takes in what has come on all connections, and each may carry the calls of many callers. Were the queue
    looked at after each call, an idle executor would take the first alone: with 128 callers of fer-nano four of
    ten batches had one face.
    """

    __slots__ = ("_asked", "_callback", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._asked = False

    def ask(self) -> None:
        """Makes it call back."""
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._over)

    def _over(self) -> None:
        self._asked = False
        self._callback()
