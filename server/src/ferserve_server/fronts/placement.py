"""Which process gets the next connection: the owner of the models, or a front process. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Processor time of a call, by benchmarks/scaling.py, whose runs give 43 to 48, 55 to 75 and 22 to 32.
_OWN_CALL_US: Final = 45.0
"""What a call costs the owner that comes in at the owner."""

_FRONT_CALL_US: Final = 68.0
"""What a call costs the front process that it comes in at."""

_FORWARDED_CALL_US: Final = 27.0
"""What such a call costs the owner, which scores it."""

_FEW_CORES: Final = 4
"""So many the model keeps busy before calls keep one busy: most of a call's 200 us and more are the model's."""

_SHARE_ON_FEW_CORES: Final = 7 / 8
"""The owner's share where it has no need of others: a call through a front process costs twice as much and gains
nothing, and faces that come in two places go in smaller batches. Of up to 7 connections none goes there."""


def share_of_owner(process_count: int, core_count: int) -> float:
    """The owner's share of the connections, 0 to 1, with which most calls can be carried.

    Where there are cores to spare, that is the share x with which the owner is as busy as each of the others is:
    `x * own + (1 - x) * forwarded = (1 - x) * front / fronts`. From 4 processes on the owner has enough to do with
    what the others send.

    Args:
        process_count: The owner and the front processes, 2 or more.
        core_count: Cores that they may use.
    """
    if core_count <= min(process_count, _FEW_CORES):
        return _SHARE_ON_FEW_CORES
    front_us = _FRONT_CALL_US / (process_count - 1)
    return max(0.0, (front_us - _FORWARDED_CALL_US) / (front_us - _FORWARDED_CALL_US + _OWN_CALL_US))


def front_for_next(own_count: int, front_counts: Sequence[int], owner_share: float) -> int | None:
    """The front process that gets the next connection, as an index, the one with the fewest; None: the owner.

    Args:
        own_count: Connections of the owner.
        front_counts: Those of each front process that takes any.
        owner_share: The owner's share of all, 0 to 1.
    """
    if not front_counts or own_count < owner_share * (own_count + sum(front_counts) + 1):
        return None
    return front_counts.index(min(front_counts))
