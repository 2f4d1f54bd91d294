"""Leases active versions, which keeps them from being unloaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from ferserve_server.domain.ports import FaceScorer, ScoresFaces, Servable


class LiveVersion:
    """Represents a version that answers requests. Event loop only."""

    def __init__(self, servable: Servable, scorer: FaceScorer) -> None:
        self.id = servable.id
        self.description = servable.description
        self.servable = servable
        self.scorer = scorer
        self._lease_count = 0
        self._unleased = asyncio.Event()

    def lease(self) -> Lease:
        """Takes a lease; release it as a context manager."""
        return Lease(self)

    async def retire(self) -> None:
        """Waits for the leases, answers accepted requests and unloads. No further lease may be taken."""
        if self._lease_count:
            self._unleased.clear()
            await self._unleased.wait()
        await self.scorer.drain()
        await self.scorer.close()

    def _taken(self) -> None:
        self._lease_count += 1

    def _returned(self) -> None:
        self._lease_count -= 1
        if self._lease_count == 0:
            self._unleased.set()


class Lease:
    """Keeps one version in memory for the duration of the `with` block."""

    __slots__ = ("_version", "description", "id", "scorer")

    def __init__(self, version: LiveVersion) -> None:
        self._version = version
        self.id = version.id
        self.description = version.description
        self.scorer: ScoresFaces = version.scorer
        version._taken()  # noqa: SLF001 - the two classes are one mechanism

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._version._returned()  # noqa: SLF001 - as above
