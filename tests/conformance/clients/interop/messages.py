"""Makes the messages of `interop.proto`, and runs the cases of a client."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVICE = "/grpc.testing.TestService/"
REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
ODD_TEXT = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
ADDRESS, _DESCRIPTORS = sys.argv[1:3]

messages: dict[str, Any] = {
    name.rpartition(".")[2]: found
    for name, found in GetMessages(FileDescriptorSet.FromString(Path(_DESCRIPTORS).read_bytes()).file).items()
}


def simple(request_size: int = 0, response_size: int = 0, **more: Any) -> Any:
    """Makes the request of UnaryCall."""
    return messages["SimpleRequest"](response_size=response_size, payload={"body": bytes(request_size)}, **more)


def output(*sizes: int, request_size: int = 0, **more: Any) -> Any:
    """Makes a request that is answered by messages of these sizes."""
    parameters = [{"size": size} for size in sizes]
    payload = {"body": bytes(request_size)}
    return messages["StreamingOutputCallRequest"](response_parameters=parameters, payload=payload, **more)


def entry(size: int) -> Any:
    """Makes a message of StreamingInputCall."""
    return messages["StreamingInputCallRequest"](payload={"body": bytes(size)})


async def _nothing() -> None:
    pass


def run(cases: dict[str, Callable[[], Awaitable[None]]], close: Callable[[], Awaitable[None]] = _nothing) -> None:
    """Runs the cases one after the other, and prints what was wrong with each, "" for nothing."""

    async def run_each() -> dict[str, str]:
        found = {}
        for name, case in cases.items():
            try:
                async with asyncio.timeout(20):
                    await case()
            except Exception as error:  # noqa: BLE001 - whatever a client raises is a result
                found[name] = f"{type(error).__name__}: {error}"
            else:
                found[name] = ""
        await close()
        return found

    print(json.dumps(asyncio.run(run_each())))
