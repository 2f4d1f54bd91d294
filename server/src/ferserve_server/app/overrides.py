"""Defines rules that tests and benchmarks replace, and that are no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Overrides:
    """Replaces rules of scheduling and placement.

    Attributes:
        hold_until_queued: Faces of a version that must wait before its first batch is dispatched; 0: no minimum.
        primary_share: Share of the connections, 0 to 1, that the primary process serves itself; None: by the
            number of processes and cores, see `workers.connection_passing.balanced_primary_share`.
    """

    hold_until_queued: int = 0
    primary_share: float | None = None


NO_OVERRIDES: Final = Overrides()
"""The rules of a server in production."""
