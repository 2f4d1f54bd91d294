"""Represents an address that takes calls, and how it stops to take them without losing any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Represents an address that takes calls. Event loop only.

    Attributes:
        port: The port; None for a Unix-domain socket, or if nothing listens.
        leave: Stops accepting connections, and asks connected clients to connect elsewhere. Calls that they have
            sent, and those that they send until they know, are still answered. Returns at once.
        has_left: Returns whether no client can send a further call: each has disconnected or knows.
    """

    port: int | None
    leave: Callable[[], None] = lambda: None
    has_left: Callable[[], bool] = lambda: True
