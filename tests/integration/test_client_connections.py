"""Tests deadlines, proxies, sizes and several servers, over real sockets."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from ferserve_client import AsyncEmotionClient, ChannelOptions, EmotionClient, RequestTooLargeError
from support.scripted_server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.mark.parametrize("timeout_s", [math.inf, 1e15, 9e9, 86_400.0])
def test_an_endless_timeout_does_not_expire(server: ScriptedServer, timeout_s: float) -> None:
    async def ask() -> int:
        async with AsyncEmotionClient(server.address, timeout_s=timeout_s) as client:
            answers = [each async for each in client.stream_frames([b"\x01"], timeout_s=timeout_s)]
            return len(await client.models()) + len(answers)

    with EmotionClient(server.address, timeout_s=timeout_s) as client:
        assert len(client.models()) == 2
        assert len(list(client.stream_frames([b"\x01"], timeout_s=timeout_s))) == 1
    assert asyncio.run(ask()) == 3


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.nan])
def test_a_timeout_of_nothing_is_rejected(server: ScriptedServer, timeout_s: float) -> None:
    with EmotionClient(server.address) as client, pytest.raises(ValueError, match="above 0"):
        client.models(timeout_s=timeout_s)


@pytest.mark.parametrize("variable", ["http_proxy", "grpc_proxy", "https_proxy"])
def test_a_proxy_in_the_environment_does_not_break_loopback(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")

    with EmotionClient(server.address, timeout_s=5.0) as client:
        assert client.health() == "serving"


def test_a_message_above_the_limit_is_too_large_on_both_sides(server: ScriptedServer) -> None:
    small, roomy = ChannelOptions(max_message_bytes=1000), ChannelOptions(max_message_bytes=64 * 1024 * 1024)
    for options, size in ((small, 2000), (roomy, 33 * 1024 * 1024)):
        with (
            EmotionClient(server.address, options=options) as client,
            pytest.raises(RequestTooLargeError) as caught,
        ):
            client.analyze([b"\x01" * size])
        assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_several_servers_share_the_calls(server: ScriptedServer) -> None:
    with serve() as other, EmotionClient([server.address, other.address]) as client:
        for _ in range(20):
            client.analyze([b"\x01"])

        counts = [len(each.requests["AnalyzeImages"]) for each in (server, other)]

    assert sum(counts) == 20
    assert min(counts) >= 5


def test_a_server_that_does_not_serve_is_passed_over(server: ScriptedServer) -> None:
    with serve() as draining, EmotionClient(f"{draining.address},{server.address}") as client:
        draining.set_health("", serving=False)
        client.analyze([b"\x01"])  # both are known by now
        draining.requests.clear()
        for _ in range(10):
            client.analyze([b"\x01"])

        assert not draining.requests["AnalyzeImages"]


def test_calls_go_on_while_a_server_of_several_is_gone(server: ScriptedServer) -> None:
    with EmotionClient(["127.0.0.1:1", server.address]) as client:
        assert len(client.models()) == 2
