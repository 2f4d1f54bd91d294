"""Tests that the model tier's channel, and the bundled client, retry only errors marked as safe by a server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_client import AsyncEmotionClient
from ferserve_client.errors import EngineStalledError
from ferserve_server.domain import errors
from ferserve_server.domain.errors import EngineLostError, FerserveError, ModelNotReadyError
from ferserve_server.services.health import EMOTION_SERVICE
from ferserve_server.services.status import code_of, trailers_of
from ferserve_server.upstream.channel import open_channel
from support.local_server import packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = emotion_pb2.ClassifyFacesRequest(packed=packed(1)).SerializeToString()
METHOD = f"/{EMOTION_SERVICE}/ClassifyFaces"


class Tier:
    """A server that answers with an error each time; `calls` counts."""

    def __init__(self, error: FerserveError) -> None:
        self.error = error
        self.calls = 0
        self.address = ""

    async def classify(self, _: bytes, context: Any) -> bytes:
        self.calls += 1
        trailers = tuple(trailers_of(self.error))
        await context.abort(code_of(self.error), self.error.message, trailing_metadata=trailers)
        return b""


@contextlib.asynccontextmanager
async def tier(error: FerserveError) -> AsyncIterator[Tier]:
    made = Tier(error)
    server = grpc.aio.server()
    handlers = {"ClassifyFaces": grpc.unary_unary_rpc_method_handler(made.classify)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EMOTION_SERVICE, handlers),))
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


READY_SOON = ModelNotReadyError("fer-nano")
READY_SOON.retry_after_s = 0.01


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (EngineLostError(executed=True), 1),
        (errors.EngineStalledError(1.0), 1),
        (READY_SOON, 3),
    ],
    ids=["engine lost with it", "engine stalled", "not ready yet"],
)
async def test_the_channel_to_a_model_tier_follows_the_status(error: FerserveError, calls: int) -> None:
    async with tier(error) as server, open_channel(server.address, 3, None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(REQUEST, timeout=20)

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.calls == calls


async def test_the_client_does_not_send_again_what_an_engine_died_with() -> None:
    async with tier(EngineLostError(executed=True)) as server, AsyncEmotionClient(server.address) as client:
        with pytest.raises(EngineStalledError) as caught:
            await client.classify(np.zeros((1, 48, 48), np.uint8))

        assert caught.value.retry_safe is False
        assert server.calls == 1
