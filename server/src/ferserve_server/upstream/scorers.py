"""What scores faces, by what callers asked for: a batch never mixes models, versions, aliases or priorities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.ports import FaceScorer, Priority
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ServableId


class ScorerKey(NamedTuple):
    """What the requests of a scorer have in common.

    Attributes:
        spec: What they asked for, the model by its name.
        priority: How urgent they are.
        servable: The version that this is expected to lead to. The model tier may choose another.
    """

    spec: ModelSpec
    priority: Priority
    servable: ServableId


class ScorerMaker(Protocol):
    """Makes a scorer."""

    def __call__(self, key: ScorerKey, description: ModelDescription) -> FaceScorer:
        """Makes a scorer; `description` is that of the version that is expected."""


class Scorers:
    """The scorers that are in use. Event loop only.

    Args of the constructor:
        make: Makes one.
        closed: Is told of every one that is gone.
    """

    def __init__(self, make: ScorerMaker, closed: Callable[[ScorerKey, FaceScorer], None]) -> None:
        self._make = make
        self._closed = closed
        self._scorers: dict[ScorerKey, FaceScorer] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    def scorer(self, key: ScorerKey, description: ModelDescription) -> FaceScorer:
        """The scorer of such requests; made if there is none."""
        scorer = self._scorers.get(key)
        if scorer is None:
            scorer = self._scorers[key] = self._make(key, description)
        return scorer

    def keep(self, is_wanted: Callable[[ScorerKey], bool]) -> None:
        """Lets those go that are not wanted any more; what they have is answered."""
        for key in [key for key in self._scorers if not is_wanted(key)]:
            task = asyncio.get_running_loop().create_task(self._retire(key, self._scorers.pop(key)))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Lets all go, and waits for that."""
        self.keep(lambda _: False)
        await asyncio.gather(*self._retiring)

    async def _retire(self, key: ScorerKey, scorer: FaceScorer) -> None:
        try:
            await scorer.drain()
        finally:
            self._closed(key, scorer)
            await scorer.close()
