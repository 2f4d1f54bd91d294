"""Tests handlers of a gRPC server on the native server: every arity, and every ending of a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue

from ferserve_server.domain.errors import LimitExceededError
from ferserve_server.grpc.handler_call import HandlerCall
from ferserve_server.grpc.router import Router
from support.http2 import LIMITS, H2Bench, message_bytes
from support.http2_frames import ErrorCode, Kind, Setting, write_reset, write_settings, write_window_update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ferserve_server.grpc.request import RequestHead
    from ferserve_server.grpc.stream import GrpcStream

READ, WRITE = StringValue.FromString, StringValue.SerializeToString


def _bytes(text: str) -> bytes:
    return StringValue(value=text).SerializeToString()


class HandlerBench(H2Bench):
    """A session whose calls one handler answers."""

    def __init__(self, make: Callable[..., Any], handle: Callable[..., Any]) -> None:
        self._handler = make(handle, READ, WRITE)
        super().__init__()

    def _begin(self, stream: GrpcStream, head: RequestHead) -> HandlerCall:  # type: ignore[override]  # in its place
        return HandlerCall(self._handler, stream)

    async def ended(self) -> dict[str, str]:
        """The trailers of the call, once it has ended."""
        async with asyncio.timeout(10):
            while True:
                self.read()
                blocks = [frame for frame in self.frames if frame.kind == Kind.HEADERS]
                reported: dict[str, str] = {}
                for block in blocks:
                    reported |= self.decoded(block)
                if "grpc-status" in reported:
                    return reported
                await asyncio.sleep(0)

    def messages(self) -> list[str]:
        """What was answered so far."""
        data = b"".join(frame.payload for frame in self.frames if frame.kind == Kind.DATA)
        found = []
        while data:
            length = int.from_bytes(data[1:5])
            found.append(READ(data[5 : 5 + length]).value)
            data = data[5 + length :]
        return found


async def _echo(request: StringValue, context: Any) -> StringValue:
    del context
    return request


async def _echo_each(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
    del context
    async for request in requests:
        yield request


async def _joined(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    del context
    return StringValue(value="".join([request.value async for request in requests]))


async def _count(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    del context
    for number in range(int(request.value)):
        yield StringValue(value=str(number))


async def _count_by_writing(request: StringValue, context: Any) -> None:
    for number in range(int(request.value)):
        await context.write(StringValue(value=str(number)))


@pytest.mark.parametrize(
    ("make", "handle", "sent", "answered"),
    [
        (grpc.unary_unary_rpc_method_handler, _echo, ["a"], ["a"]),
        (grpc.unary_stream_rpc_method_handler, _count, ["3"], ["0", "1", "2"]),
        (grpc.unary_stream_rpc_method_handler, _count_by_writing, ["2"], ["0", "1"]),
        (grpc.stream_unary_rpc_method_handler, _joined, ["a", "b", "c"], ["abc"]),
        (grpc.stream_stream_rpc_method_handler, _echo_each, ["a", "b"], ["a", "b"]),
        (grpc.stream_stream_rpc_method_handler, _echo_each, [], []),
    ],
)
async def test_calls_of_every_shape_are_answered(
    make: Callable[..., Any], handle: Callable[..., Any], sent: list[str], answered: list[str]
) -> None:
    bench = HandlerBench(make, handle)
    bench.send(bench.headers(1, end=not sent))
    for at, text in enumerate(sent):
        bench.send(bench.data(1, message_bytes(_bytes(text)), end=at == len(sent) - 1))
    assert (await bench.ended())["grpc-status"] == "0"
    assert bench.messages() == answered


@pytest.mark.parametrize("count", [0, 2])
async def test_a_unary_method_takes_one_message_and_no_other_number(count: int) -> None:
    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, _echo)
    bench.send(bench.headers(1), bench.data(1, message_bytes(_bytes("a")) * count, end=True))
    reported = await bench.ended()
    assert (reported["grpc-status"], f"there were {count}" in reported["grpc-message"]) == ("12", True)


@pytest.mark.parametrize("make", [grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler])
async def test_bytes_that_are_no_message_end_the_call_and_stop_the_handler(make: Callable[..., Any]) -> None:
    stopped = asyncio.Event()

    async def handle(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        try:
            async for answer in _echo_each(requests, context):
                yield answer
        finally:
            stopped.set()

    streams = make is grpc.stream_stream_rpc_method_handler
    bench = HandlerBench(make, handle if streams else _echo)
    bench.send(bench.headers(1))
    await asyncio.sleep(0)
    bench.send(bench.data(1, message_bytes(b"\xff\xff")))
    reported = await bench.ended()
    assert (reported["grpc-status"], "no message of" in reported["grpc-message"]) == ("13", True)
    if streams:
        await asyncio.wait_for(stopped.wait(), 10)


async def test_a_handler_that_breaks_is_logged_and_the_caller_gets_a_status() -> None:
    async def breaks(request: StringValue, context: Any) -> StringValue:
        raise ZeroDivisionError

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, breaks)
    with structlog.testing.capture_logs() as logged:
        bench.send(bench.call(1, _bytes("a")))
        assert (await bench.ended())["grpc-status"] == "13"
    assert [entry["event"] for entry in logged] == ["call failed outside its handler"]


async def test_a_handler_may_end_its_call_with_a_status_and_trailers() -> None:
    async def aborts(request: StringValue, context: Any) -> StringValue:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no färse", (("more", "x"), ("more-bin", b"\0\1")))

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, aborts)
    bench.send(bench.call(1, _bytes("a")))
    reported = await bench.ended()
    assert (reported["grpc-status"], reported["grpc-message"]) == ("5", "no f%C3%A4rse")
    assert (reported["more"], reported["more-bin"]) == ("x", "AAE")


async def test_a_handler_may_send_headers_before_its_answer() -> None:
    async def greets(request: StringValue, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\0\1")))
        return request

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, greets)
    bench.send(bench.call(1, _bytes("a")))
    reported = await bench.ended()
    assert (reported["x-first"], reported["x-first-bin"], reported["grpc-status"]) == ("1", "AAE", "0")
    assert bench.messages() == ["a"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_handler_may_add_trailers_to_its_answer(streams: bool) -> None:
    async def answers(request: StringValue, context: Any) -> StringValue:
        context.set_trailing_metadata((("x-last", "1"), ("x-last-bin", b"\0\1")))
        return request

    async def streams_one(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield await answers(request, context)

    if streams:
        bench = HandlerBench(grpc.unary_stream_rpc_method_handler, streams_one)
    else:
        bench = HandlerBench(grpc.unary_unary_rpc_method_handler, answers)
    bench.send(bench.call(1, _bytes("a")))
    reported = await bench.ended()
    assert (reported["x-last"], reported["x-last-bin"], reported["grpc-status"]) == ("1", "AAE", "0")
    assert bench.messages() == ["a"]


async def test_a_handler_that_is_cancelled_from_within_ends_its_call() -> None:
    async def gives_up(request: StringValue, context: Any) -> StringValue:
        raise asyncio.CancelledError

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, gives_up)
    bench.send(bench.call(1, _bytes("a")))
    assert (await bench.ended())["grpc-status"] == "1"


async def test_a_message_that_is_too_long_reaches_the_handler_as_its_error() -> None:
    caught: list[Exception] = []

    async def handle(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        try:
            async for answer in _echo_each(requests, context):
                yield answer
        except LimitExceededError as error:
            caught.append(error)
            raise

    bench = HandlerBench(grpc.stream_stream_rpc_method_handler, handle)
    first = message_bytes(_bytes("a"))
    bench.send(bench.headers(1), bench.data(1, first + b"\0" + (2**30).to_bytes(4)))
    assert (await bench.ended())["grpc-status"] == "3"
    assert (bench.messages(), [error.reason for error in caught]) == (["a"], ["MESSAGE_TOO_LARGE"])


async def test_a_handler_knows_how_long_its_caller_waits_and_is_stopped_then() -> None:
    remaining: list[float | None] = []
    stopped = asyncio.Event()

    async def waits(request: StringValue, context: Any) -> StringValue:
        remaining.append(context.time_remaining())
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, waits)
    bench.send(bench.call(1, _bytes("a"), grpc_timeout="50m"))
    assert (await bench.ended())["grpc-status"] == "4"
    await asyncio.wait_for(stopped.wait(), 10)
    assert remaining[0] is not None
    assert 0 <= remaining[0] <= 0.05


async def test_a_caller_who_leaves_stops_the_handler_and_gets_nothing_more() -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def writes_at_the_end(request: StringValue, context: Any) -> StringValue:
        assert context.time_remaining() is None
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            await context.write(StringValue(value="too late"))
            stopped.set()

    bench = HandlerBench(grpc.unary_unary_rpc_method_handler, writes_at_the_end)
    bench.send(bench.call(1, _bytes("a")))
    await asyncio.wait_for(begun.wait(), 10)
    bench.read()
    bench.send(write_reset(1, ErrorCode.CANCEL))
    await asyncio.wait_for(stopped.wait(), 10)
    assert bench.messages() == []
    assert len(bench.connection._streams) == 0


async def test_a_handler_waits_for_a_peer_that_does_not_read() -> None:
    sent: list[int] = []

    async def pours(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for number in range(10):
            yield StringValue(value="x" * 40_000)
            sent.append(number)

    bench = HandlerBench(grpc.unary_stream_rpc_method_handler, pours)
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 150}), bench.call(1, _bytes("a")))
    for _ in range(50):
        await asyncio.sleep(0)
    assert sent == [0]  # the second one does not fit into the bound on unsent bytes
    bench.send(write_settings({Setting.INITIAL_WINDOW_SIZE: 1_000_000}), write_window_update(0, 1_000_000))
    assert (await bench.ended())["grpc-status"] == "0"
    assert len(bench.messages()) == 10


def test_methods_are_found_by_their_path_and_strangers_leave_no_trace() -> None:
    table = Router(LIMITS)
    first, second = (grpc.unary_unary_rpc_method_handler(_echo) for _ in range(2))
    table.add_registered_method_handlers("a.B", {"C": first})
    table.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("d.E", {"F": second}),))
    for _ in range(2):
        assert (table.find("/a.B/C"), table.find("/d.E/F")) == (first, second)
        assert [table.find(path) for path in ("/a.B/D", "/d.E/C", "", "a.B/C", "/")] == [None] * 5
    assert len(table._handlers) == 2
