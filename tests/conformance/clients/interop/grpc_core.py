"""Runs the interoperability cases with grpcio: `python grpc_core.py ADDRESS DESCRIPTORS`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
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

_KINDS = {
    "EmptyCall": ("unary_unary", "Empty"),
    "UnaryCall": ("unary_unary", "SimpleResponse"),
    "StreamingOutputCall": ("unary_stream", "StreamingOutputCallResponse"),
    "StreamingInputCall": ("stream_unary", "StreamingInputCallResponse"),
    "FullDuplexCall": ("stream_stream", "StreamingOutputCallResponse"),
    "UnimplementedCall": ("unary_unary", "Empty"),
}
_METADATA = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
_channels: list[grpc.aio.Channel] = []


def _method(name: str, service: str = SERVICE) -> Any:
    if not _channels:
        _channels.append(grpc.aio.insecure_channel(ADDRESS))
    kind, response = _KINDS[name]
    make = getattr(_channels[0], kind)
    return make(service + name, lambda message: message.SerializeToString(), messages[response].FromString)


async def _fails(call: Any) -> tuple[int, str]:
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code().value[0], error.details() or ""
    except asyncio.CancelledError:
        return 1, ""
    raise AssertionError("the call did not fail")


async def empty_unary() -> None:
    assert await _method("EmptyCall")(messages["Empty"]()) == messages["Empty"]()


async def large_unary() -> None:
    answer = await _method("UnaryCall")(simple(271828, 314159))
    assert answer.payload.body == bytes(314159)


async def client_compressed_unary() -> None:
    answer = await _method("UnaryCall")(simple(271828, 314159), compression=grpc.Compression.Gzip)
    assert answer.payload.body == bytes(314159)


async def client_streaming() -> None:
    call = _method("StreamingInputCall")(entry(size) for size in REQUEST_SIZES)
    assert (await call).aggregated_payload_size == sum(REQUEST_SIZES)


async def client_compressed_streaming() -> None:
    requests = (entry(size) for size in REQUEST_SIZES)
    call = _method("StreamingInputCall")(requests, compression=grpc.Compression.Deflate)
    assert (await call).aggregated_payload_size == sum(REQUEST_SIZES)


async def server_streaming() -> None:
    call = _method("StreamingOutputCall")(output(*RESPONSE_SIZES))
    assert tuple([len(answer.payload.body) async for answer in call]) == RESPONSE_SIZES


async def ping_pong() -> None:
    call = _method("FullDuplexCall")()
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        await call.write(output(response_size, request_size=request_size))
        assert len((await call.read()).payload.body) == response_size
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def empty_stream() -> None:
    call = _method("FullDuplexCall")()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def cancel_after_begin() -> None:
    call = _method("StreamingInputCall")()
    call.cancel()
    assert (await _fails(call))[0] == 1


async def cancel_after_first_response() -> None:
    call = _method("FullDuplexCall")()
    await call.write(output(31415, request_size=27182))
    assert len((await call.read()).payload.body) == 31415
    call.cancel()
    assert (await _fails(call))[0] == 1


async def timeout_on_sleeping_server() -> None:
    request = output(31415, request_size=27182)
    request.response_parameters[0].interval_us = 10_000_000
    assert (await _fails(_method("StreamingOutputCall")(request, timeout=0.05)))[0] == 4


async def status_code_and_message() -> None:
    echo = {"code": 2, "message": "test status message"}
    assert await _fails(_method("UnaryCall")(simple(response_status=echo))) == (2, "test status message")
    call = _method("FullDuplexCall")()
    await call.write(output(response_status=echo))
    assert await _fails(call) == (2, "test status message")


async def special_status_message() -> None:
    echo = {"code": 2, "message": ODD_TEXT}
    assert await _fails(_method("UnaryCall")(simple(response_status=echo))) == (2, ODD_TEXT)


async def unimplemented_method() -> None:
    assert (await _fails(_method("UnimplementedCall")(messages["Empty"]())))[0] == 12


async def unimplemented_service() -> None:
    call = _method("UnimplementedCall", "/grpc.testing.UnimplementedService/")(messages["Empty"]())
    assert (await _fails(call))[0] == 12


async def custom_metadata() -> None:
    unary = _method("UnaryCall")(simple(271828, 314159), metadata=_METADATA)
    await unary
    duplex = _method("FullDuplexCall")(metadata=_METADATA)
    await duplex.write(output(314159, request_size=271828))
    await duplex.done_writing()
    while await duplex.read() is not grpc.aio.EOF:
        pass
    for call in (unary, duplex):
        assert (await call.initial_metadata())[INITIAL] == "test_initial_metadata_value"
        assert (await call.trailing_metadata())[TRAILING] == b"\xab\xab\xab"


async def _close() -> None:
    await _channels[0].close()


run(
    {
        case.__name__: case
        for case in (
            empty_unary,
            large_unary,
            client_compressed_unary,
            client_streaming,
            client_compressed_streaming,
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
