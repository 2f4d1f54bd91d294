"""The counts of a service whose calls come in through several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.domain.servable import ServableId
from ferserve_server.fronts.state_form import read_value, write_value
from ferserve_server.transport.compat.statistics import VersionCounts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ferserve_server.fronts.state_form import Json
    from ferserve_server.transport.compat.statistics import Statistics

COUNTED: Final = "statistics"
"""Name of the news that requests were counted, and of the question for the counts."""


class RemoteStatistics:
    """Counts that another process keeps. Implements `statistics.KeptStatistics`. Event loop only.

    Args of the constructor:
        tell: Sends what was counted.
        ask: Asks for the counts.
    """

    def __init__(self, tell: Callable[[str, object], None], ask: Callable[[str, object], Awaitable[Json]]) -> None:
        self._tell = tell
        self._ask = ask
        self._pending: list[list[object]] = []

    def answered(
        self,
        servable: ServableId,
        *,
        total_s: float,
        queue_s: float,
        input_s: float,
        inference_s: float,
        output_s: float,
    ) -> None:
        """See `statistics.RequestStatistics`."""
        self._pending.append([servable.name, servable.version, total_s, queue_s, input_s, inference_s, output_s])

    def failed(self, servable: ServableId, total_s: float) -> None:
        """See `statistics.RequestStatistics`."""
        self._pending.append([servable.name, servable.version, total_s])

    def flush(self) -> None:
        """Sends what was counted since."""
        if self._pending:
            self._tell(COUNTED, self._pending)
            self._pending = []

    async def counts_of(self, servables: Sequence[ServableId]) -> list[VersionCounts]:
        """See `statistics.KeptStatistics`. What other processes counted arrives within a fraction of a second."""
        self.flush()
        answer = await self._ask(COUNTED, write_value(tuple(servables)))
        return [read_value(form, VersionCounts) for form in answer]


def take_counted(statistics: Statistics, rows: Json) -> None:
    """Counts what `RemoteStatistics` sent."""
    for name, version, total_s, *parts in rows:
        servable = ServableId(name, version)
        if not parts:
            statistics.failed(servable, total_s)
            continue
        queue_s, input_s, inference_s, output_s = parts
        statistics.answered(
            servable,
            total_s=total_s,
            queue_s=queue_s,
            input_s=input_s,
            inference_s=inference_s,
            output_s=output_s,
        )


async def tell_counts(statistics: Statistics, servables: Json) -> object:
    """Answers what `RemoteStatistics` asks."""
    counts = await statistics.counts_of(read_value(servables, tuple[ServableId, ...]))
    return write_value(counts)
