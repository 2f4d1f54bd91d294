"""Runs a model tier of servers with fake models, and a detection tier before it, all on loopback sockets."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc

from ferserve_server.app.primary_main import running_server
from ferserve_server.config.settings import Settings
from support.local_server import SERVING, LocalServer, take_overrides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def detection_tier(*upstreams: str, ready: bool = True, **settings: object) -> AsyncIterator[LocalServer]:
    """Runs a server without models before others; with `ready` it answers when the block begins."""
    chosen: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "http_listen": "off",
        "metrics_listen": "off",
        "upstream_refresh_s": 0.05,
        "vision_threads": 1,
        "listen_before_ready": not ready,
    }
    overrides = take_overrides(settings)
    wanted = Settings.of(upstream=",".join(upstreams), **(chosen | settings))
    async with running_server(wanted, None, overrides) as running:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options) as channel:
            server = LocalServer(channel, running)
            if ready:
                await server.wait_for(SERVING)
            yield server
