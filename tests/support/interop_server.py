"""Serves the test service of gRPC's interoperability tests, on the native server or on grpcio's.

`python -m support.interop_server native DESCRIPTORS` prints the port, and serves until its input ends.
https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md has what the service does.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessages

from ferserve_server.grpc.grpcio_server import listening_grpc, new_server
from ferserve_server.grpc.router import Router
from ferserve_server.grpc.stream import GrpcStream
from ferserve_server.http2.registry import ConnectionLimits, ConnectionRegistry, serving
from ferserve_server.runtime.addresses import bound, port_of
from ferserve_server.runtime.listener import accepting
from ferserve_server.services.limits import RequestLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMITS = RequestLimits(
    max_message_bytes=4 * 2**20,
    max_metadata_bytes=65_536,
    max_faces_per_request=512,
    max_images_per_request=8,
    max_detection_side_pixels=640,
)
_INITIAL, _TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


class TestService:
    """Implements the service's methods with the context that both servers give.

    Args of the constructor:
        messages: The classes of its messages, by name.
    """

    def __init__(self, messages: dict[str, Any]) -> None:
        self._messages = messages

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns the methods, except UnimplementedCall."""
        unary, output, entry, duplex = (
            grpc.unary_unary_rpc_method_handler,
            grpc.unary_stream_rpc_method_handler,
            grpc.stream_unary_rpc_method_handler,
            grpc.stream_stream_rpc_method_handler,
        )
        methods = {
            "EmptyCall": self._method(unary, self._empty, "Empty"),
            "UnaryCall": self._method(unary, self._unary, "SimpleRequest"),
            "StreamingOutputCall": self._method(output, self._output, "StreamingOutputCallRequest"),
            "StreamingInputCall": self._method(entry, self._input, "StreamingInputCallRequest"),
            "FullDuplexCall": self._method(duplex, self._duplex, "StreamingOutputCallRequest"),
        }
        return grpc.method_handlers_generic_handler("grpc.testing.TestService", methods)

    def _method(self, kind: Any, behaviour: Any, request: str) -> Any:
        return kind(behaviour, self._messages[request].FromString, lambda message: message.SerializeToString())

    async def _empty(self, request: Any, context: Any) -> Any:
        del request, context
        return self._messages["Empty"]()

    async def _unary(self, request: Any, context: Any) -> Any:
        await _echo_metadata(context)
        await _echo_status(request, context)
        return self._messages["SimpleResponse"](payload={"body": bytes(request.response_size)})

    async def _output(self, request: Any, context: Any) -> AsyncIterator[Any]:
        del context
        for each in request.response_parameters:
            await asyncio.sleep(each.interval_us / 1e6)
            yield self._messages["StreamingOutputCallResponse"](payload={"body": bytes(each.size)})

    async def _input(self, requests: AsyncIterator[Any], context: Any) -> Any:
        del context
        size = sum([len(request.payload.body) async for request in requests])
        return self._messages["StreamingInputCallResponse"](aggregated_payload_size=size)

    async def _duplex(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await _echo_metadata(context)
        async for request in requests:
            await _echo_status(request, context)
            async for response in self._output(request, context):
                yield response


async def _echo_metadata(context: Any) -> None:
    found = {name: value for name, value in context.invocation_metadata() if name in {_INITIAL, _TRAILING}}
    if _INITIAL in found:
        await context.send_initial_metadata(((_INITIAL, found[_INITIAL]),))
    if _TRAILING in found:
        value = found[_TRAILING]
        if isinstance(value, str):  # the native server leaves binary values in base64
            value = base64.b64decode(value + "=" * (-len(value) % 4))
        context.set_trailing_metadata(((_TRAILING, value),))


async def _echo_status(request: Any, context: Any) -> None:
    if request.response_status.code:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        await context.abort(codes[request.response_status.code], request.response_status.message)


async def _serve(kind: str, described: bytes) -> None:
    messages = {
        name.rpartition(".")[2]: found
        for name, found in GetMessages(FileDescriptorSet.FromString(described).file).items()
    }
    handlers = (TestService(messages).handlers(),)
    if kind == "grpcio":
        server = new_server(LIMITS)
        server.add_generic_rpc_handlers(handlers)
        async with listening_grpc(server, "127.0.0.1:0", None, "--listen") as endpoint:
            await _until_input_ends(endpoint.port)
        return
    router = Router(LIMITS)
    router.add_generic_rpc_handlers(handlers)
    limits = ConnectionLimits(100, 0, 0, LIMITS.max_message_bytes, 2 * LIMITS.max_metadata_bytes)
    registry = ConnectionRegistry(partial(GrpcStream, router), limits, None, time.monotonic)
    async with serving(registry):
        with bound("127.0.0.1:0", "--listen") as sockets, accepting(sockets, registry.accept):
            await _until_input_ends(port_of(sockets))


async def _until_input_ends(port: int | None) -> None:
    print(port, flush=True)  # noqa: T201 - for the parent
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
