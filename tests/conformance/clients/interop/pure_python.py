"""Runs the interoperability cases with grpclib: `python pure_python.py ADDRESS DESCRIPTORS`."""

from __future__ import annotations

from typing import Any

from grpclib.client import (
    Channel,
    ServiceMethod,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from grpclib.exceptions import GRPCError, StreamTerminatedError
from messages import (
    ADDRESS,
    INITIAL,
    ODD_TEXT,
    REQUEST_SIZES,
    RESPONSE_SIZES,
    SERVICE,
    TRAILING,
    entry,
    messages,
    output,
    run,
    simple,
)

_KINDS: dict[str, tuple[type[ServiceMethod[Any, Any]], str, str]] = {
    "EmptyCall": (UnaryUnaryMethod, "Empty", "Empty"),
    "UnaryCall": (UnaryUnaryMethod, "SimpleRequest", "SimpleResponse"),
    "StreamingOutputCall": (UnaryStreamMethod, "StreamingOutputCallRequest", "StreamingOutputCallResponse"),
    "StreamingInputCall": (StreamUnaryMethod, "StreamingInputCallRequest", "StreamingInputCallResponse"),
    "FullDuplexCall": (StreamStreamMethod, "StreamingOutputCallRequest", "StreamingOutputCallResponse"),
    "UnimplementedCall": (UnaryUnaryMethod, "Empty", "Empty"),
}
_METADATA = {INITIAL: "test_initial_metadata_value", TRAILING: b"\xab\xab\xab"}
_channels: list[Channel] = []


def _method(name: str, service: str = SERVICE) -> Any:
    if not _channels:
        host, port = ADDRESS.split(":")
        _channels.append(Channel(host, int(port)))
    kind, request, response = _KINDS[name]
    return kind(_channels[0], service + name, messages[request], messages[response])


async def _fails(call: Any) -> tuple[int, str]:
    try:
        await call
    except GRPCError as error:
        return error.status.value, error.message or ""
    raise AssertionError("the call did not fail")


async def empty_unary() -> None:
    assert await _method("EmptyCall")(messages["Empty"]()) == messages["Empty"]()


async def large_unary() -> None:
    answer = await _method("UnaryCall")(simple(271828, 314159))
    assert answer.payload.body == bytes(314159)


async def client_streaming() -> None:
    answer = await _method("StreamingInputCall")([entry(size) for size in REQUEST_SIZES])
    assert answer.aggregated_payload_size == sum(REQUEST_SIZES)


async def server_streaming() -> None:
    answers = await _method("StreamingOutputCall")(output(*RESPONSE_SIZES))
    assert tuple(len(answer.payload.body) for answer in answers) == RESPONSE_SIZES


async def ping_pong() -> None:
    async with _method("FullDuplexCall").open() as stream:
        for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
            await stream.send_message(output(response_size, request_size=request_size))
            assert len((await stream.recv_message()).payload.body) == response_size
        await stream.end()
        assert await stream.recv_message() is None


async def empty_stream() -> None:
    assert await _method("FullDuplexCall")([]) == []


async def cancel_after_begin() -> None:
    async with _method("StreamingInputCall").open() as stream:
        await stream.send_request()
        await stream.cancel()
    await empty_unary()


async def cancel_after_first_response() -> None:
    async with _method("FullDuplexCall").open() as stream:
        await stream.send_message(output(31415, request_size=27182))
        assert len((await stream.recv_message()).payload.body) == 31415
        await stream.cancel()
    await empty_unary()


async def timeout_on_sleeping_server() -> None:
    request = output(31415, request_size=27182)
    request.response_parameters[0].interval_us = 10_000_000
    try:
        await _method("StreamingOutputCall")(request, timeout=0.05)
    except (TimeoutError, StreamTerminatedError):
        return  # its own clock was first
    except GRPCError as error:
        if error.status.value == 4:
            return
        raise
    raise AssertionError("the call did not fail")


async def status_code_and_message() -> None:
    echo = {"code": 2, "message": "test status message"}
    assert await _fails(_method("UnaryCall")(simple(response_status=echo))) == (2, "test status message")
    duplex = _method("FullDuplexCall")([output(response_status=echo)])
    assert await _fails(duplex) == (2, "test status message")


async def special_status_message() -> None:
    echo = {"code": 2, "message": ODD_TEXT}
    assert await _fails(_method("UnaryCall")(simple(response_status=echo))) == (2, ODD_TEXT)


async def unimplemented_method() -> None:
    assert (await _fails(_method("UnimplementedCall")(messages["Empty"]())))[0] == 12


async def unimplemented_service() -> None:
    call = _method("UnimplementedCall", "/grpc.testing.UnimplementedService/")(messages["Empty"]())
    assert (await _fails(call))[0] == 12


async def custom_metadata() -> None:
    requests = {
        "UnaryCall": simple(271828, 314159),
        "FullDuplexCall": output(314159, request_size=271828),
    }
    for name, request in requests.items():
        async with _method(name).open(metadata=_METADATA) as stream:
            await stream.send_message(request, end=True)
            assert len((await stream.recv_message()).payload.body) == 314159
            await stream.recv_trailing_metadata()
            assert stream.initial_metadata[INITIAL] == "test_initial_metadata_value"
            assert stream.trailing_metadata[TRAILING] == b"\xab\xab\xab"


async def _close() -> None:
    _channels[0].close()


run(
    {
        case.__name__: case
        for case in (
            empty_unary,
            large_unary,
            client_streaming,
            server_streaming,
            ping_pong,
            empty_stream,
            cancel_after_begin,
            cancel_after_first_response,
            timeout_on_sleeping_server,
            status_code_and_message,
            special_status_message,
            unimplemented_method,
            unimplemented_service,
            custom_metadata,
        )
    },
    _close,
)
