"""Tests compressed messages: bounded in size and ratio, one at a time, large ones off the event loop."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.errors import LimitExceededError
from ferserve_server.grpc.compression import AT_ONCE_BYTES, MAX_RATIO, inflate, inflate_large
from ferserve_server.grpc.errors import MessageError
from ferserve_server.http2.flow_control import OversizeWindow
from support.http2 import LIMITS, H2Bench, message_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

MAKERS = {"gzip": gzip.compress, "deflate": zlib.compress}
TWO = gzip.compress(b"a") + b"more"
LARGE = replace(LIMITS, max_message_bytes=8 * 2**20)


def _compressed(message: bytes, encoding: str = "gzip") -> bytes:
    data = MAKERS[encoding](message)
    return b"\1" + len(data).to_bytes(4) + data


def _noise(byte_count: int, repeat: int = 8) -> bytes:
    """Bytes that compress to about one in `repeat`."""
    part = bytes((at * at * 2654435761 >> 7) & 0xFF for at in range(byte_count // repeat))
    return part * repeat


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event here
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("encoding", MAKERS)
@pytest.mark.parametrize("step", [5, 50, 10_000])
def test_messages_come_out_as_they_were_whichever_of_them_are_compressed(encoding: str, step: int) -> None:
    bench = H2Bench()
    call = bench.open(1, grpc_encoding=encoding)
    messages = [b"", b"a" * 1000, b"b", bytes(range(256)) * 9]
    data = b"".join((_compressed(each, encoding), message_bytes(each))[at % 2] for at, each in enumerate(messages))
    for at in range(0, len(data), step):
        bench.send(bench.data(1, data[at : at + step]))
    assert (call.messages, call.errors) == (messages, [])


@pytest.mark.parametrize(
    ("encoding", "data", "code", "words"),
    [
        ("identity", _compressed(b"a"), 13, "names no grpc-encoding"),
        ("snappy", _compressed(b"a"), 12, "'snappy' are not read"),
        ("gzip", b"\1\0\0\0\5abcde", 13, "no gzip"),
        ("gzip", _compressed(b"a", "deflate"), 13, "no gzip"),
        ("deflate", _compressed(b"a"), 13, "no deflate"),
        ("gzip", b"\1\0\0\0\0", 13, "no whole gzip"),
        (
            "gzip",
            b"\1" + len(gzip.compress(b"a") + b"more").to_bytes(4) + gzip.compress(b"a") + b"more",
            13,
            "whole",
        ),
    ],
)
def test_what_cannot_be_inflated_ends_the_call_behind_the_messages_before(
    encoding: str, data: bytes, code: int, words: str
) -> None:
    bench = H2Bench()
    call = bench.open(1, grpc_encoding=encoding)
    bench.send(bench.data(1, message_bytes(b"before") + data + message_bytes(b"after")))
    assert call.messages == [b"before"]
    (error,) = call.errors
    assert isinstance(error, MessageError)
    assert words in str(error)
    trailers = dict(error.trailers)
    assert trailers[b"grpc-status"] == str(code).encode()
    assert (trailers.get(b"grpc-accept-encoding") == b"identity,deflate,gzip") is (code == 12)


def test_no_more_is_made_of_a_message_than_one_may_have() -> None:
    limits = replace(LIMITS, max_message_bytes=1000)
    assert inflate(gzip.compress(bytes(1000)), "gzip", limits) == bytes(1000)
    with pytest.raises(LimitExceededError, match="max_message_bytes"):
        inflate(gzip.compress(bytes(10_000_000)), "gzip", limits)


async def test_few_bytes_that_become_very_many_are_rejected() -> None:
    data = gzip.compress(bytes(4 * 2**20), 9)
    assert MAX_RATIO * len(data) < 4 * 2**20
    assert inflate(data, "gzip", LARGE) is None
    with pytest.raises(MessageError, match="more than 100 times its size"):
        await inflate_large(data, "gzip", LARGE)


async def test_small_results_may_have_any_ratio() -> None:
    """Clients of the interoperability tests send 271,828 zeros."""
    data = gzip.compress(bytes(2**20), 9)
    assert MAX_RATIO * len(data) < 2**20
    assert inflate(data, "gzip", LARGE) is None
    assert await inflate_large(data, "gzip", LARGE) == bytes(2**20)


async def test_large_messages_are_inflated_off_the_loop_and_stay_in_order() -> None:
    bench = H2Bench(LARGE)
    call = bench.open(1, grpc_encoding="gzip")
    call.is_unary = False
    large = _noise(3 * AT_ONCE_BYTES)
    data = _compressed(large) + message_bytes(b"behind")
    for at in range(0, len(data), 16_000):
        bench.send(bench.data(1, data[at : at + 16_000], end=at + 16_000 >= len(data)))
    assert (call.messages, call.ended) == ([], False)
    await _until(lambda: call.ended)
    assert call.messages == [large, b"behind"]


async def test_a_large_message_that_cannot_be_inflated_ends_its_call() -> None:
    bench = H2Bench(LARGE)
    call = bench.open(1, grpc_encoding="gzip")
    bench.send(bench.data(1, _compressed(bytes(4 * 2**20)), end=True))
    await _until(lambda: call.errors)
    assert "100 times" in str(call.errors[0])
    assert not call.ended


async def test_large_messages_of_all_calls_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is inflated when the call of the first has ended."""
    bench = H2Bench(replace(LIMITS, max_message_bytes=2**20))
    calls = [bench.open(number, grpc_encoding="gzip") for number in (1, 3)]
    router = calls[0].stream._router
    monkeypatch.setattr(router, "inflated", OversizeWindow(2**20))
    message = _noise(2**20)
    for number in (1, 3):
        data = _compressed(message)
        for at in range(0, len(data), 16_000):
            bench.send(bench.data(number, data[at : at + 16_000], end=at + 16_000 >= len(data)))
    await _until(lambda: calls[0].ended)
    await asyncio.sleep(0.05)
    assert calls[1].messages == []
    calls[0].stream.answer(b"")
    bench.read()
    await _until(lambda: calls[1].ended)
    assert calls[1].messages == [message]


async def test_a_call_that_is_cancelled_while_its_message_is_inflated_gets_nothing() -> None:
    bench = H2Bench(LARGE)
    call = bench.open(1, grpc_encoding="gzip")
    bench.send(bench.data(1, _compressed(_noise(4 * AT_ONCE_BYTES)), end=True))
    router = call.stream._router
    bench.connection.lost()
    assert call.cancelled
    await asyncio.sleep(0.05)
    assert (call.messages, router.inflated._granted) == ([], {})


def test_windows_count_what_came_over_the_wire() -> None:
    bench = H2Bench()
    call = bench.open(1, grpc_encoding="gzip")
    call.is_unary = False
    message = bytes(range(256)) * 900
    sent = 0
    while sent < 600_000:
        data = _compressed(message)
        bench.send(bench.data(1, data))
        sent += len(data)
    assert bench.error_code() is None
    assert set(call.messages) == {message}
