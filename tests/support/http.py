"""Runs a server whose engine can be blocked, and sends requests to it, for tests of JSON over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ferserve_server.backends.fake import FakeLoader, FakeServable
from support.fake_models import publish_fake, rewrite_manifest
from support.local_server import eventually, local_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from ferserve_server.domain.ports import Loader
    from support.local_server import LocalServer


class BlockingLoader(FakeLoader):
    """Loads models that predict while `unblocked` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.unblocked = threading.Event()
        self.unblocked.set()

    def load(self, servable_id, directory, description) -> FakeServable:
        return FakeServable(servable_id, description, before_predict=lambda _: self.unblocked.wait(30))


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rejection(self) -> tuple[int, str]:
        """Status and reason of a rejection; every one holds a text for people."""
        assert isinstance(self.json["error"], str)
        return self.status, self.json["reason"]


@dataclass
class HttpServer:
    """A server that runs, and a client on it."""

    server: LocalServer
    session: aiohttp.ClientSession
    metrics_url: str

    async def ask(self, path: str, data: Any = None, method: str = "", **more: Any) -> Answer:
        """GETs a path, or POSTs data to it."""
        method = method or ("GET" if data is None else "POST")
        async with self.session.request(method, self.server.http_url + path, data=data, **more) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def raw(self, *parts: bytes) -> bytes:
        """Sends bytes as they are, part after part, and returns what comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.running.http_port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics, 0 if it is not there."""
        async with self.session.get(self.metrics_url) as response:
            text = await response.text()
        wanted = (f"ferserve_{name}", labels)
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return next((each.value for each in samples if (each.name, each.labels) == wanted), 0.0)

    async def wait_for_metric(self, at_least: float, name: str, **labels: str) -> None:
        async def reached() -> bool:
            return await self.metric(name, **labels) >= at_least

        await eventually(reached)


@contextlib.asynccontextmanager
async def http_server(
    folder: Path, loader: Loader | None = None, *, manifest: Mapping[str, object] | None = None, **settings: Any
) -> AsyncIterator[HttpServer]:
    """Runs a server with one fake model until the block is left; `manifest` changes fields of its manifest."""
    rewrite_manifest(publish_fake(folder), manifest or {})
    chosen: dict[str, Any] = {"http_listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    async with (
        local_server(folder, loader, **(chosen | settings)) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield HttpServer(server, session, f"http://127.0.0.1:{server.running.metrics_port}/metrics")


def form(*files: tuple[str, bytes]) -> aiohttp.FormData:
    """A form with these files."""
    data = aiohttp.FormData()
    for number, (name, content) in enumerate(files):
        data.add_field(f"file{number}", content, filename=name)
    return data
