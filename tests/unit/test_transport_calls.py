"""Tests the common handling of calls: tracking, deadline, counting, and errors that become a status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import status_pb2

from ferserve.v1 import face_pb2
from ferserve_server.domain import metrics
from ferserve_server.domain.errors import ModelNotFoundError
from ferserve_server.services.calls import Calls
from ferserve_server.services.limits import RequestLimits
from support.fake_clock import FakeClock, settle
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

SMALL = face_pb2.PackedFaces(pixels=b"small")
LARGE = face_pb2.PackedFaces(pixels=bytes(2000))


class Aborted(Exception):  # noqa: N818 - what gRPC raises has no better name
    """As gRPC's own, ends the handler."""


class FakeContext:
    """The part of gRPC's context that calls use."""

    def __init__(self, metadata: Sequence[tuple[str, str]] = (), remaining_s: float | None = None) -> None:
        self._metadata = metadata
        self._remaining_s = remaining_s
        self.code: grpc.StatusCode | None = None
        self.message = ""
        self.trailers: dict[str, Any] = {}

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._metadata

    def time_remaining(self) -> float | None:
        return self._remaining_s

    async def abort(self, code: grpc.StatusCode, message: str, trailing_metadata) -> None:
        self.code, self.message, self.trailers = code, message, dict(trailing_metadata)
        raise Aborted


class Bench:
    def __init__(self) -> None:
        self.recorder = Recorder()
        self.clock = FakeClock()
        limits = RequestLimits(
            max_message_bytes=1000,
            max_metadata_bytes=200,
            max_faces_per_request=4,
            max_images_per_request=4,
            max_detection_side_pixels=640,
        )
        self.calls = Calls(limits, self.recorder, self.clock)

    async def call(self, handle: Callable, request: Any = SMALL, context: FakeContext | None = None) -> Any:
        return await self.calls.unary("Method", handle, service="test.Service")(request, context or FakeContext())

    async def stream(self, handle: Callable, requests: Sequence[Any], context: FakeContext) -> list[Any]:
        async def send() -> AsyncIterator[Any]:
            for request in requests:
                yield request

        return [
            answer async for answer in self.calls.stream("Method", handle, service="test.Service")(send(), context)
        ]

    async def is_idle(self) -> bool:
        idle = asyncio.create_task(self.calls.wait_idle())
        await settle()
        if not idle.done():
            idle.cancel()
            return False
        return True


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def _answer(request: Any, context: Any) -> str:
    return "answer"


async def _echo(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.pixels


async def test_an_answer_is_passed_on_and_counted(bench: Bench) -> None:
    assert await bench.call(_answer) == "answer"
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", "OK")]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelNotFoundError("x"), grpc.StatusCode.NOT_FOUND, "There is no model 'x'"),
        (RuntimeError("/secret/path"), grpc.StatusCode.INTERNAL, "The server failed on this call"),
    ],
)
async def test_an_error_becomes_its_status_and_one_that_is_not_ours_is_hidden(
    bench: Bench, error: Exception, code: grpc.StatusCode, message: str
) -> None:
    async def fail(request: Any, context: Any) -> None:
        raise error

    async def fail_stream(requests: Any, context: Any) -> AsyncIterator[str]:
        yield "first"
        raise error

    unary, stream = FakeContext(), FakeContext()
    with pytest.raises(Aborted):
        await bench.call(fail, context=unary)
    with pytest.raises(Aborted):
        await bench.stream(fail_stream, [], stream)
    for context in (unary, stream):
        assert context.code is code
        assert context.message.startswith(message)
        status = status_pb2.Status.FromString(context.trailers["grpc-status-details-bin"])
        assert status.message == context.message
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", code.name)] * 2
    assert await bench.is_idle()


async def test_a_caller_who_leaves_counts_as_cancelled(bench: Bench) -> None:
    async def wait(request: Any, context: Any) -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(bench.call(wait))
    await settle()
    assert not await bench.is_idle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", "CANCELLED")]
    assert await bench.is_idle()


async def test_closing_a_stream_closes_its_handler_and_counts_as_cancelled(bench: Bench) -> None:
    closed = False

    async def endless(requests: Any, context: Any) -> AsyncIterator[int]:
        nonlocal closed
        try:
            while True:
                yield 1
        finally:
            closed = True

    answers = bench.calls.stream("Method", endless, service="test.Service")(None, FakeContext())
    assert await anext(answers) == 1
    await answers.aclose()
    assert closed
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", "CANCELLED")]


async def test_a_draining_server_answers_late_calls_and_takes_no_stream(bench: Bench) -> None:
    bench.calls.draining.set()
    await bench.call(_answer, context=FakeContext())
    with pytest.raises(Aborted):
        await bench.stream(_echo, [], FakeContext())
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", "OK"), ("Method", "UNAVAILABLE")]


async def test_a_server_that_has_drained_takes_nothing(bench: Bench) -> None:
    bench.calls.closing = True
    for call in (bench.call(_answer, context=FakeContext()), bench.stream(_echo, [], FakeContext())):
        with pytest.raises(Aborted):
            await call
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("Method", "UNAVAILABLE")] * 2


async def test_a_message_that_is_too_long_is_rejected_also_within_a_stream(bench: Bench) -> None:
    unary, stream = FakeContext(), FakeContext()
    with pytest.raises(Aborted):
        await bench.call(_answer, LARGE, unary)
    with pytest.raises(Aborted):
        await bench.stream(_echo, [SMALL, LARGE], stream)
    for context in (unary, stream):
        assert context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "max_message_bytes" in context.message


async def test_metadata_is_counted_as_http2_counts_it(bench: Bench) -> None:
    fits = [("name", "v" * 64), ("name", "v" * 64)]  # 2 x (4 + 64 + 32) = 200
    assert await bench.call(_answer, context=FakeContext(fits)) == "answer"
    context = FakeContext([*fits[:1], ("name", "v" * 65)])
    with pytest.raises(Aborted):
        await bench.call(_answer, context=context)
    assert "max_metadata_bytes" in context.message


def test_a_deadline_is_reported_on_the_servers_clock(bench: Bench) -> None:
    assert bench.calls.deadline(FakeContext(remaining_s=2.5)) == bench.clock.now() + 2.5
    assert bench.calls.deadline(FakeContext()) is None


async def test_the_server_is_idle_when_the_last_call_has_ended(bench: Bench) -> None:
    unblocked = [asyncio.Event(), asyncio.Event()]

    async def wait(request: Any, context: Any) -> None:
        await unblocked[context.number].wait()

    calls = []
    for number in range(2):
        context = FakeContext()
        context.number = number  # type: ignore[attr-defined]
        calls.append(asyncio.create_task(bench.call(wait, context=context)))
    await settle()
    unblocked[0].set()
    await calls[0]
    assert not await bench.is_idle()
    unblocked[1].set()
    await calls[1]
    assert await bench.is_idle()


async def test_a_call_over_another_protocol_is_counted_rejected_and_drained_alike(bench: Bench) -> None:
    async def answer() -> str:
        return "answer"

    async def fail() -> str:
        raise RuntimeError("/secret/path")

    async def send(outcome: Any) -> Any:
        assert not await bench.is_idle()  # until it is written
        return outcome

    assert await bench.calls.carried("HTTP/x", [], answer, send) == "answer"
    hidden = await bench.calls.carried("HTTP/x", [], fail, send)
    assert hidden.message.startswith("The server failed on this call")
    long = await bench.calls.carried("HTTP/x", [("name", "v" * 200)], answer, send)
    assert long.reason == "METADATA_TOO_LARGE"
    bench.calls.closing = True
    assert (await bench.calls.carried("HTTP/x", [], answer, send)).reason == "DRAINING"
    codes = ["OK", "INTERNAL", "INVALID_ARGUMENT", "UNAVAILABLE"]
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("HTTP/x", code) for code in codes]
    assert await bench.is_idle()


async def test_a_caller_over_another_protocol_who_leaves_counts_as_cancelled(bench: Bench) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(bench.calls.carried("HTTP/x", [], wait, lambda _: wait()))
    await settle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert bench.recorder.labels_of(metrics.REQUESTS) == [("HTTP/x", "CANCELLED")]
    assert await bench.is_idle()
