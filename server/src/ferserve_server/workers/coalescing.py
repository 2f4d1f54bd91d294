"""Coalesces requests of several clients into one request to the primary process. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId

if TYPE_CHECKING:
    import asyncio

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Priority
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.workers.remote_lease import RemoteLease

MOST_FACES: Final = 32
"""Maximum face count of a coalesced request, because larger ones gain nothing and one failure affects all."""

_SAME_DEADLINE_S: Final = 2e-3
"""Maximum difference of deadlines, in seconds, that count as one (the earliest), because requests with equal
timeouts that arrive in one event-loop iteration differ by less."""


class PendingRequest:
    """Represents one request and the group that it waits in.

    Attributes:
        lease: Its lease.
        crops: Its faces, uint8 [N, H, W, 1].
        deadline: When its answer must be there, in seconds, or None.
        priority: Its priority.
        future: Gets its scores.
        id: Identity of the request's client. A group is sent with that of its first: it is formed only while all
            waiting requests fit into one batch, and a rejected one is sent again request by request.
        group: The group that it is sent with.
    """

    __slots__ = ("crops", "deadline", "future", "group", "id", "lease", "priority")

    group: CoalescedRequest

    def __init__(
        self,
        lease: RemoteLease,
        crops: CropBatch,
        deadline: float | None,
        priority: Priority,
        future: asyncio.Future[ScoredFaces],
        caller: CallerId = UNKNOWN_CALLER,
    ) -> None:
        self.lease = lease
        self.crops = crops
        self.deadline = deadline
        self.priority = priority
        self.future = future
        self.id = caller


class CoalescedRequest:
    """Represents requests sent as one. Their faces follow each other, in the order of `callers`.

    Attributes:
        callers: The waiting requests; one or more.
        face_count: Faces of all of them.
        deadline: The earliest of theirs, in seconds, or None.
        number: The request's number, 0 before it is sent.
        offset: Its offset in the shared memory, in bytes.
        room: Bytes there.
        sent_at: When it was sent, in seconds.
        left_count: Number of `callers` cancelled since.
    """

    __slots__ = ("callers", "deadline", "face_count", "left_count", "number", "offset", "room", "sent_at")

    def __init__(self, caller: PendingRequest) -> None:
        self.callers = [caller]
        self.face_count = len(caller.crops)
        self.deadline = caller.deadline
        self.number = 0
        self.offset = self.room = 0
        self.sent_at = 0.0
        self.left_count = 0
        caller.group = self

    def takes(self, caller: PendingRequest) -> bool:
        """Returns whether the primary process would treat another request like those that are here."""
        first = self.callers[0]
        if first.deadline is None or caller.deadline is None:
            same_deadline = first.deadline is caller.deadline
        else:
            same_deadline = abs(caller.deadline - first.deadline) <= _SAME_DEADLINE_S
        return (
            same_deadline
            and caller.lease.way is first.lease.way
            and not caller.lease.kept
            and caller.priority is first.priority
            and caller.crops.shape[1:] == first.crops.shape[1:]
            and self.face_count + len(caller.crops) <= MOST_FACES
        )

    def add(self, caller: PendingRequest) -> None:
        """Adds another request."""
        self.callers.append(caller)
        self.face_count += len(caller.crops)
        if caller.deadline is not None and self.deadline is not None:
            self.deadline = min(self.deadline, caller.deadline)
        caller.group = self

    def leave_out_gone(self) -> None:
        """Drops cancelled requests before the group is sent. An empty group need not be sent."""
        self.callers = self.waiting
        self.face_count = sum(len(caller.crops) for caller in self.callers)

    @property
    def waiting(self) -> list[PendingRequest]:
        """Returns the requests that are not cancelled."""
        return [caller for caller in self.callers if not caller.future.done()]
