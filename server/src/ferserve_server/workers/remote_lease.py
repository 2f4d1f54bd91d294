"""Leases versions that the primary process has loaded. Event loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.ports import Priority

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ServableId


class Route(NamedTuple):
    """Represents the route of requests for the same model spec, as the primary process last reported it.

    Attributes:
        spec: Their model spec.
        servable: The version.
        description: The description in its manifest.
        shared_faces: Maximum number of unanswered faces at which requests are grouped; 0: never.
    """

    spec: ModelSpec
    servable: ServableId
    description: ModelDescription
    shared_faces: int


class LeaseScorer(Protocol):
    """Scores faces for leases on another process's versions. `remote_scorer.RemoteScorer` implements it."""

    def score(
        self,
        lease: RemoteLease,
        crops: CropBatch,
        *,
        deadline: float | None,
        priority: Priority,
        caller: CallerId,
    ) -> Coroutine[Any, Any, ScoredFaces]:
        """Scores faces for a lease; see `domain.ports.ScoresFaces`."""

    def end_lease(self, number: int) -> None:
        """Notifies the primary process that no more faces come for a lease that it keeps."""


class RemoteLease:
    """Leases a remote version; implements `domain.models.Lease` and `domain.ports.ScoresFaces`.

    Attributes:
        id: The version: until faces were scored the active one by the last report, then the one
            that scored them.
        description: The description in its manifest.
        route: The requested spec, and the version that it resolves to.
        number: The primary process's number for it.
        held: True if the primary process keeps it until a CLOSE message.
    """

    __slots__ = ("_remote", "_used", "description", "held", "id", "number", "route")

    def __init__(self, remote: LeaseScorer, route: Route, number: int, *, held: bool) -> None:
        self._remote = remote
        self._used = False
        self.route = route
        self.id = route.servable
        self.description = route.description
        self.number = number
        self.held = held

    @property
    def scorer(self) -> Self:
        """Returns the lease itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.held and self._used:
            self._remote.end_lease(self.number)

    def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> Coroutine[Any, Any, ScoredFaces]:
        """Scores faces; see `domain.ports.ScoresFaces`."""
        self._used = True
        return self._remote.score(self, crops, deadline=deadline, priority=priority, caller=caller)

    def answered_by(self, servable: ServableId, description: ModelDescription | None) -> None:
        """Records which version scored."""
        self.id = servable
        self.description = description or self.description
