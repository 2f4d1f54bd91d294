"""Coalesces requests of several clients into one request to the primary process. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId

if TYPE_CHECKING:
    import asyncio

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Priority
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.trace import SpanRef
    from ferserve_server.workers.remote_lease import RemoteLease

MAX_COALESCED_FACES: Final = 32
"""Maximum face count of a coalesced request, because larger ones gain nothing and one failure affects all."""

_SAME_DEADLINE_S: Final = 2e-3
"""Maximum difference of deadlines, in seconds, that count as one (the earliest), because requests with equal
timeouts that arrive in one event-loop iteration differ by less."""


class PendingRequest:
    """Represents one request and the coalesced request that it is part of.

    Attributes:
        lease: Its lease.
        crops: Its faces, uint8 [N, H, W, 1].
        deadline: When its answer must be there, in seconds, or None.
        priority: Its priority.
        future: Gets its scores.
        caller: Identity of the request's client. A coalesced request is sent with that of its first one: requests
            are coalesced only while all waiting ones fit into one batch, and after a rejection each is sent alone.
        spans: Spans of the call, if it is sampled.
        coalesced: The coalesced request that it is sent with.
    """

    __slots__ = ("caller", "coalesced", "crops", "deadline", "future", "lease", "priority", "spans")

    coalesced: CoalescedRequest

    def __init__(
        self,
        lease: RemoteLease,
        crops: CropBatch,
        deadline: float | None,
        priority: Priority,
        future: asyncio.Future[ScoredFaces],
        caller: CallerId = UNKNOWN_CALLER,
        spans: tuple[SpanRef, ...] = (),
    ) -> None:
        self.lease = lease
        self.crops = crops
        self.deadline = deadline
        self.priority = priority
        self.future = future
        self.caller = caller
        self.spans = spans


class CoalescedRequest:
    """Represents requests sent as one, with their faces in the order of `requests`.

    Attributes:
        requests: The waiting requests; one or more.
        face_count: Faces of all of them.
        deadline: The earliest of theirs, in seconds, or None.
        number: The request's number, 0 before it is sent.
        offset: Its offset in the shared memory, in bytes.
        room: Bytes there.
        sent_at: When it was sent, in seconds.
        cancelled_count: Number of `requests` cancelled since.
    """

    __slots__ = ("cancelled_count", "deadline", "face_count", "number", "offset", "requests", "room", "sent_at")

    def __init__(self, request: PendingRequest) -> None:
        self.requests = [request]
        self.face_count = len(request.crops)
        self.deadline = request.deadline
        self.number = 0
        self.offset = self.room = 0
        self.sent_at = 0.0
        self.cancelled_count = 0
        request.coalesced = self

    def accepts(self, request: PendingRequest) -> bool:
        """Returns whether the primary process would treat another request like those that are here."""
        first = self.requests[0]
        if first.deadline is None or request.deadline is None:
            same_deadline = first.deadline is request.deadline
        else:
            same_deadline = abs(request.deadline - first.deadline) <= _SAME_DEADLINE_S
        return (
            same_deadline
            and request.lease.route is first.lease.route
            and not request.lease.held
            and request.priority is first.priority
            and request.crops.shape[1:] == first.crops.shape[1:]
            and self.face_count + len(request.crops) <= MAX_COALESCED_FACES
        )

    def add(self, request: PendingRequest) -> None:
        """Adds another request."""
        self.requests.append(request)
        self.face_count += len(request.crops)
        if request.deadline is not None and self.deadline is not None:
            self.deadline = min(self.deadline, request.deadline)
        request.coalesced = self

    def drop_cancelled(self) -> None:
        """Drops cancelled requests before it is sent. If none is left, it need not be sent."""
        self.requests = self.waiting
        self.face_count = sum(len(request.crops) for request in self.requests)

    @property
    def spans(self) -> tuple[SpanRef, ...]:
        """Returns the spans of all sampled requests."""
        return tuple(span for request in self.requests for span in request.spans)

    @property
    def waiting(self) -> list[PendingRequest]:
        """Returns the requests that are not cancelled."""
        return [request for request in self.requests if not request.future.done()]
