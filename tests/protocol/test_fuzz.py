"""Runs a few hundred mutated exchanges; `make fuzz` runs more."""

from __future__ import annotations

from protocol.fuzz import converse

_COUNT = 300


async def test_mutated_exchanges_harm_nobody() -> None:
    for seed in range(_COUNT):
        converse(seed)
