"""Queues pictures for the threads that read them, shared fairly between callers."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, QueueFullError
from ferserve_server.domain.ports import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.caller import CallerId

_FIRST_PICTURE_S: Final = 0.015
"""Expected time of a picture before any was read: 640x480 takes about that with the default options."""

_NEWEST_SHARE: Final = 0.1
"""Weight of the newest picture in the running mean of their time."""

_BULK_PROMOTION_S: Final = 0.25
"""Age at which bulk work counts as interactive, in seconds; the default of the setting bulk_promotion_ms."""


class _Ticket:
    """Holds a place in the queue, for pictures that one thread reads in sequence."""

    __slots__ = ("caller", "deadline", "granted", "image_count", "priority", "since")

    def __init__(
        self,
        granted: asyncio.Future[None],
        image_count: int,
        deadline: float | None,
        priority: Priority,
        caller: CallerId,
        since: float,
    ) -> None:
        self.granted = granted
        self.image_count = image_count
        self.deadline = deadline
        self.priority = priority
        self.caller = caller
        self.since = since


class PictureQueue:
    """Assigns threads to waiting pictures. Event loop only.

    Callers are served round robin, interactive pictures before bulk ones. When the queue is full, a caller that
    has fewer pictures in it takes the place of the newest ones of the caller that has most.

    Args of the constructor:
        thread_count: Pictures that are read at once, 1 or more.
        max_images: Most pictures that wait, 0 or more.
        now: The time that deadlines are in, in seconds.
    """

    def __init__(self, *, thread_count: int, max_images: int, now: Callable[[], float] = time.monotonic) -> None:
        self._thread_count = self._idle_count = thread_count
        self._max_images = max_images
        self._now = now
        self._tickets: OrderedDict[CallerId, deque[_Ticket]] = OrderedDict()
        self._picture_s = _FIRST_PICTURE_S
        self.waiting_count = 0

    @property
    def expected_wait_s(self) -> float:
        """Returns the expected time until the waiting pictures are read, in seconds."""
        return self._picture_s * max(1, self.waiting_count) / self._thread_count

    def record(self, picture_s: float) -> None:
        """Records the time of a picture, in seconds."""
        self._picture_s += _NEWEST_SHARE * (picture_s - self._picture_s)

    def admit(self, image_count: int, deadline: float | None, caller: CallerId) -> None:
        """Reserves places for pictures; a call that finds any may overfill the queue.

        Raises:
            QueueFullError: There is no room, and this caller has as much of it as others.
            DeadlineExpiredError: The deadline has passed.
            DeadlineUnmeetableError: The deadline would pass before the pictures are read.
        """
        if self._idle_count > 0:
            return
        own = self._images_of(caller)
        missing = self.waiting_count - self._max_images + 1
        if missing > 0 and not self._displace(own + image_count, missing):
            raise self._full_error()
        if deadline is None:
            return
        remaining_s = deadline - self._now()
        if remaining_s <= 0:
            raise DeadlineExpiredError
        others = min(self.waiting_count - own, len(self._tickets) * (own + image_count))
        expected_s = (own + others + image_count) * self._picture_s / self._thread_count
        if expected_s > remaining_s:
            raise DeadlineUnmeetableError(remaining_s=remaining_s, expected_s=expected_s)

    async def acquire(
        self, image_count: int, *, deadline: float | None, priority: Priority, caller: CallerId
    ) -> None:
        """Waits for a thread; `release` returns it.

        Raises:
            QueueFullError: Another caller needed the place.
            DeadlineExpiredError: The deadline passed first.
        """
        if self._idle_count > 0:
            self._idle_count -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = _Ticket(granted, image_count, deadline, priority, caller, self._now())
        self._tickets.setdefault(caller, deque()).append(ticket)
        self.waiting_count += image_count
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._remove(ticket)
            elif granted.exception() is None:
                self.release()  # the thread was assigned in the same moment
            raise

    def release(self) -> None:
        """Returns a thread, for the next waiting pictures."""
        while (ticket := self._next()) is not None:
            self._remove(ticket)
            if ticket.caller in self._tickets:
                self._tickets.move_to_end(ticket.caller)
            if ticket.granted.done():
                continue
            if ticket.deadline is not None and ticket.deadline <= self._now():
                ticket.granted.set_exception(DeadlineExpiredError())
                continue
            ticket.granted.set_result(None)
            return
        self._idle_count += 1

    def _next(self) -> _Ticket | None:
        promoted_since = self._now() - _BULK_PROMOTION_S
        for tickets in self._tickets.values():
            for ticket in tickets:
                if ticket.priority is Priority.INTERACTIVE or ticket.since <= promoted_since:
                    return ticket
        return next((tickets[0] for tickets in self._tickets.values()), None)

    def _displace(self, wanted: int, missing: int) -> bool:
        """Displaces pictures of the largest caller, if it then still has as many as are wanted."""
        if not self._tickets:
            return False
        largest = max(self._tickets, key=self._images_of)
        if self._images_of(largest) - missing < wanted:
            return False
        error = self._full_error()
        for ticket in sorted(self._tickets[largest], key=lambda each: (each.priority.value, each.since))[::-1]:
            if missing <= 0:
                break
            missing -= ticket.image_count
            self._remove(ticket)
            if not ticket.granted.done():
                ticket.granted.set_exception(error)
        return True

    def _remove(self, ticket: _Ticket) -> None:
        tickets = self._tickets[ticket.caller]
        tickets.remove(ticket)
        self.waiting_count -= ticket.image_count
        if not tickets:
            del self._tickets[ticket.caller]

    def _images_of(self, caller: CallerId) -> int:
        return sum(ticket.image_count for ticket in self._tickets.get(caller, ()))

    def _full_error(self) -> QueueFullError:
        return QueueFullError(
            what="images",
            queued=self.waiting_count,
            limit=self._max_images,
            setting="max_queue_images",
            retry_after_s=self.expected_wait_s,
        )
