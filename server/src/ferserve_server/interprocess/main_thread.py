"""What a process's main thread does for its others."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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
