"""Notices a front process that hangs: one that has not ended, and gives no sign of life."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from ferserve_server.fronts.front_process import FrontProcess

log = structlog.get_logger(__name__)

BEAT_S: Final = 1.0
"""How often a front process is asked for a sign of life."""

LONGEST_SILENCE_BEATS: Final = 10
"""So many without one, and a front process hangs. Nothing on its event loop takes seconds, and on a full machine
what waits for a core waits for less than this."""

LONGEST_START_S: Final = 120.0
"""The same for one that does not listen yet, in seconds: it imports for 2 s on an idle core."""


class Heartbeat:
    """Counts the beats since a front process gave a sign of life. Pure.

    Beats of the owner's are counted, not seconds: an owner that was itself held up, in a container that was paused
    or on a machine that slept, has counted none meanwhile, and takes nobody for hung who was held up with it.

    Attributes:
        silent_beats: Beats without a sign of life.
    """

    def __init__(self) -> None:
        self.silent_beats = 0
        self._heard_count = 0

    def beat(self, heard_count: int, *, listens: bool) -> bool:
        """Counts a beat; returns whether the process hangs.

        Args:
            heard_count: How often it was heard so far.
            listens: Whether it has got so far as to take calls in.
        """
        self.silent_beats = 0 if heard_count != self._heard_count else self.silent_beats + 1
        self._heard_count = heard_count
        return self.silent_beats >= (LONGEST_SILENCE_BEATS if listens else LONGEST_START_S / BEAT_S)


async def until_ended(front: FrontProcess, beat_s: float = BEAT_S) -> None:
    """Returns when a front process has ended; kills one that hangs."""
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat()
    question: asyncio.Task[None] | None = None
    while not front.ended.is_set():
        if heartbeat.beat(front.heard_count, listens=front.listening.done()):
            silent_s = heartbeat.silent_beats * beat_s
            log.error("front process hangs; it is killed", pid=front.pid, silent_s=silent_s)
            front.kill(f"it hung for {silent_s:g} s and was killed")
            return
        if question is None or question.done():
            question = loop.create_task(front.told())  # whatever it says counts; it may have nothing else to say
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await front.ended.wait()
