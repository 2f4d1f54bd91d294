"""Leases versions of upstream servers.

A scorer serves requests with equal specs and priorities: a batch never mixes models, versions, aliases or
priorities. All faces of one lease are scored by one version, the one that the model tier chose.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import VersionNotFoundError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.domain.upstream_errors import VersionChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.ports import FaceScorer
    from ferserve_server.domain.servable import ModelDescription, ServableId


class ScorerKey(NamedTuple):
    """Identifies the requests that share a scorer.

    Attributes:
        spec: Their model spec, the model by its name.
        priority: Their priority.
        servable: The version that this is expected to resolve to. The model tier may choose another.
    """

    spec: ModelSpec
    priority: Priority
    servable: ServableId


class ScorerMaker(Protocol):
    """Makes a scorer."""

    def __call__(self, key: ScorerKey, description: ModelDescription) -> FaceScorer:
        """Makes a scorer; `description` is that of the expected version."""


class Scorers:
    """Keeps the scorers that are in use. Event loop only.

    Args of the constructor:
        make: Makes one.
        closed: Notified of every closed one.
    """

    def __init__(self, make: ScorerMaker, closed: Callable[[ScorerKey, FaceScorer], None]) -> None:
        self._make = make
        self._closed = closed
        self._scorers: dict[ScorerKey, FaceScorer] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def scorer(self, key: ScorerKey, description: ModelDescription) -> FaceScorer:
        """Returns the scorer of such requests; made if there is none."""
        scorer = self._scorers.get(key)
        if scorer is None:
            scorer = self._scorers[key] = self._make(key, description)
        return scorer

    def keep(self, is_wanted: Callable[[ScorerKey], bool]) -> None:
        """Closes scorers that are no longer required; their requests are answered."""
        for key in [key for key in self._scorers if not is_wanted(key)]:
            task = asyncio.get_running_loop().create_task(self._retire(key, self._scorers.pop(key)))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Closes all, and waits for that."""
        self.keep(lambda _: False)
        await asyncio.gather(*self._retiring)

    async def _retire(self, key: ScorerKey, scorer: FaceScorer) -> None:
        try:
            await scorer.drain()
        finally:
            self._closed(key, scorer)
            await scorer.close()


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import ModelDescription, ServableId


class UpstreamLease:
    """Leases an upstream version; implements `domain.models.Lease` and `domain.ports.ScoresFaces`.

    Event loop only. Faces are sent with the client's model spec, so the tier resolves aliases and canaries. Its
    choice may change between the batches of one lease. Then the first answer holds, and faces that another version
    scored are sent again with that version named.

    Attributes:
        id: The version: the last reported one until faces were scored, then the one that scored them.
        description: The description in its manifest.
    """

    __slots__ = ("_answered", "_describe", "_expected", "_scorers", "_spec", "description", "id")

    def __init__(
        self,
        scorers: Scorers,
        spec: ModelSpec,
        servable: ServableId,
        description: ModelDescription,
        describe: Callable[[ServableId], ModelDescription],
    ) -> None:
        """Creates a lease on a model spec.

        Args:
            scorers: Score the faces.
            spec: The requested model spec, the model by its name.
            servable: The version that it resolves to, by the last report.
            description: The description in its manifest.
            describe: The same for another version.
        """
        self._scorers = scorers
        self._spec = spec
        self._describe = describe
        self._answered = False
        self._expected = servable, description
        self.id, self.description = servable, description

    @property
    def scorer(self) -> Self:
        """Returns the lease itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: no resource is held."""

    async def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        """Scores faces; see `domain.ports.ScoresFaces`.

        Raises:
            VersionChangedError: The version that answered first was removed.
            FerserveError: An error of the tier, or of the queue here.
        """
        try:
            faces = await self._score(self._spec, *self._expected, crops, deadline, priority, caller)
        except VersionChangedError as error:
            if error.servable is None:
                raise
            self._answered_by(error.servable)
        else:
            if faces.servable is None or self._answered_by(faces.servable):
                return faces
        pinned = ModelSpec(self.id.name, self.id.version)
        try:
            return await self._score(pinned, self.id, self.description, crops, deadline, priority, caller)
        except VersionNotFoundError:
            raise VersionChangedError(self.id) from None

    async def _score(
        self,
        spec: ModelSpec,
        servable: ServableId,
        description: ModelDescription,
        crops: CropBatch,
        deadline: float | None,
        priority: Priority,
        caller: CallerId,
    ) -> ScoredFaces:
        scorer = self._scorers.scorer(ScorerKey(spec, priority, servable), description)
        return await scorer.score(crops, deadline=deadline, priority=priority, caller=caller)

    def _answered_by(self, servable: ServableId) -> bool:
        """Records which version scored, if it is the first answer; returns whether it is that version."""
        if not self._answered:
            self._answered = True
            if servable != self.id:
                self.id = servable
                self.description = self._describe(servable)
        return servable == self.id
