"""A front process that ends before it was told anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Never

import pytest

from ferserve_server.fronts import front_process
from ferserve_server.fronts.front_process import FrontPlan, FrontProcess, FrontStartError
from ferserve_server.interprocess.child import Child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.interprocess.channel import Channel

ENDS_AT_ONCE = "__future__"
"""A module of Python's that does nothing."""


class EndedChild(Child):
    """A process that has ended by the time its starter goes on, as when memory runs out."""

    def __init__(self, module: str, arguments: Sequence[str], channels: Sequence[Channel]) -> None:
        super().__init__(module, arguments, channels)
        assert self.wait(60)


def _no_lease(*_: object, **__: object) -> Never:
    raise AssertionError("nobody asks for a lease")


def _same(crops: CropBatch) -> CropBatch:
    return crops


async def test_it_is_told_as_one_that_ended_and_not_as_an_error_of_its_starter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front_process, "Child", EndedChild)
    front = FrontProcess(FrontPlan(ENDS_AT_ONCE, {}, 4096, _no_lease, _same), {}, {}, lambda: None)
    async with asyncio.timeout(60):
        await front.start({})
        with pytest.raises(FrontStartError, match="ended before it listened"):
            await front.listening
        assert front.ended.is_set()
        assert await front.end() == "exit code 0"
