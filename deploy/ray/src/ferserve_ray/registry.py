"""Holds the servers that have reported lately. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_S: Final = 1.0
"""Time between two reports of a replica, in seconds."""

EXPIRY_S: Final = 4.0
"""Age of the last report after which a server counts as gone, in seconds: its node may be lost."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Describes the server of one replica.

    Attributes:
        address: HOST:PORT of gRPC.
        node_id: Ray's id of its node.
        pid: Process id of the server.
        start_count: Number of its starts, 1 or more.
        queue_age_s: Age of its queue, in seconds.
    """

    address: str
    node_id: str
    pid: int
    start_count: int
    queue_age_s: float


class Registry:
    """Holds the servers that are ready. State is lost with it and complete again after a heartbeat."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins empty.

        Args:
            clock: Gives monotonic seconds.
        """
        self._clock = clock
        self._seen: dict[str, tuple[float, Registration]] = {}

    def report(self, replica: str, registration: Registration | None) -> None:
        """Notes the server of a replica; None removes it at once."""
        if registration is None:
            self._seen.pop(replica, None)
        else:
            self._seen[replica] = (self._clock(), registration)

    def servers(self) -> list[Registration]:
        """Returns the servers that have reported lately, by address."""
        oldest = self._clock() - EXPIRY_S
        self._seen = {replica: each for replica, each in self._seen.items() if each[0] >= oldest}
        return sorted((registration for _, registration in self._seen.values()), key=lambda each: each.address)
