"""Runs a server with real worker processes, and the models of the test in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client.parser import text_string_to_metric_families

from support.local_server import LocalServer, Stubs, local_server
from support.processes import served_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ferserve_server.domain.ports import Loader
    from ferserve_server.workers.supervisor import WorkerSupervisor

CALLER_COUNT = 12
"""Connections spread over two processes: with gRPC's server by chance, all on one of them once in 2,000 runs."""


@contextlib.asynccontextmanager
async def worker_server(
    model_repo: Path, loader: Loader | None = None, **settings: object
) -> AsyncIterator[LocalServer]:
    """Runs a server until the block is left; by default two worker processes take all calls in."""
    async with local_server(model_repo, loader, **({"processes": 3, "primary_share": 0.0} | settings)) as server:
        yield server


def workers_of(server: LocalServer) -> WorkerSupervisor:
    """The worker processes of a server."""
    assert server.running.workers is not None
    return server.running.workers


@contextlib.asynccontextmanager
async def callers(server: LocalServer, count: int = CALLER_COUNT) -> AsyncIterator[list[Stubs]]:
    """Stubs on connections of their own, which land on one process or another, once health says SERVING there."""
    async with contextlib.AsyncExitStack() as stack:
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        made = []
        for _ in range(count):
            channel = grpc.aio.insecure_channel(server.address, options)
            made.append(Stubs(await stack.enter_async_context(channel)))
        for each in made:
            await each.wait_for()
        yield made


@contextlib.asynccontextmanager
async def callers_by_process(server: LocalServer, count: int) -> AsyncIterator[dict[int, list[Stubs]]]:
    """Stubs on connections of their own, `count` or more for each worker process, by its process id."""
    async with contextlib.AsyncExitStack() as stack:
        found: dict[int, list[Stubs]] = {pid: [] for pid in workers_of(server).pids}
        port = int(server.address.rpartition(":")[2])
        known = {pid: served_connections(pid, port) for pid in found}  # that of the server's own stubs
        for _ in range(100):
            if all(len(made) >= count for made in found.values()):
                break
            (stubs,) = await stack.enter_async_context(callers(server, 1))
            for pid, there in known.items():
                now = served_connections(pid, port)
                if now - there:
                    found[pid].append(stubs)
                known[pid] = now
        assert all(found.values()), "100 connections, and all on one process"
        yield found


def scrape(server: LocalServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a server's metrics, by name and labels. Blocking."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.running.metrics_port}/metrics", timeout=30) as page:
        text = page.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metric(server: LocalServer, name: str, **labels: str) -> float:
    """One sample, 0 if it is not there."""
    samples = await asyncio.to_thread(scrape, server)
    return samples.get((f"ferserve_{name}", frozenset(labels.items())), 0.0)
