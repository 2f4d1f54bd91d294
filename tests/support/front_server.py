"""A server with front processes: real ones, and the models of the test in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from support.local_server import LocalServer, Stubs, eventually, local_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ferserve_server.domain.ports import Loader
    from ferserve_server.fronts.supervisor import Fronts

CALLER_COUNT = 12
"""Connections spread over two processes by chance: all of these on one of them once in 2,000 runs."""


@contextlib.asynccontextmanager
async def front_server(
    model_repo: Path, loader: Loader | None = None, *, processes: int = 2, **settings: object
) -> AsyncIterator[LocalServer]:
    """Runs a server with front processes until the block is left."""
    async with local_server(model_repo, loader, processes=processes, **settings) as server:
        yield server


def fronts_of(server: LocalServer) -> Fronts:
    assert server.running.fronts is not None
    return server.running.fronts


@contextlib.asynccontextmanager
async def callers(server: LocalServer, count: int = CALLER_COUNT) -> AsyncIterator[list[Stubs]]:
    """Stubs on connections of their own, which land on one process or another."""
    async with contextlib.AsyncExitStack() as stack:
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        made = []
        for _ in range(count):
            channel = grpc.aio.insecure_channel(server.address, options)
            made.append(Stubs(await stack.enter_async_context(channel)))
        await asyncio.gather(*(stubs.channel.channel_ready() for stubs in made))
        yield made


async def all_know(stubs: list[Stubs]) -> None:
    """Waits until health says SERVING on every connection."""
    for each in stubs:
        await each.wait_for()


__all__ = ["CALLER_COUNT", "all_know", "callers", "eventually", "front_server", "fronts_of"]
