"""Runs a few hundred mutated exchanges; `make fuzz` runs more."""

from __future__ import annotations

from protocol.fuzz import converse
from protocol.socket_fuzz import fuzzed_server

_COUNT = 300
_SOCKET_COUNT = 150


async def test_mutated_exchanges_harm_nobody() -> None:
    for seed in range(_COUNT):
        converse(seed)


def test_over_a_socket_they_leave_nothing_behind() -> None:
    with fuzzed_server() as fuzz:
        fuzz.run(iter(range(_SOCKET_COUNT)))
