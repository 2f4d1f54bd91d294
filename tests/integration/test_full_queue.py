"""Tests the errors of a full queue for clients of other servers: immediate, with a retry delay."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import grpc
import pytest

from support.compat import PREDICTION, ask, call, crops, infer_request, labels_of, open_stream, tfs
from support.http import http_server
from support.local_server import Rejection, rejection_of
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from support.http import HttpServer

# Nothing runs before eight faces wait. Five do, so there is no room for five more, and nobody has fewer than they
# would leave to another caller.
ROOM = {"max_queue_faces": 8, "max_faces_per_request": 8, "hold_until_queued": 8}
WAITING, TOO_MANY, THE_REST = [3] * 5, [1] * 5, [6] * 3


@pytest.fixture
async def full_server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    """A server in whose queue five faces wait; in the end they and those that are still taken are answered."""
    async with http_server(tmp_path, **ROOM) as server:
        channel = server.server.channel
        taken = asyncio.ensure_future(ask(channel, "ModelInfer", infer_request(crops(*WAITING))))
        await server.wait_for_metric(5, "queue_depth_faces", model="fer-nano", version="1")
        yield server
        last = await ask(channel, "ModelInfer", infer_request(crops(*THE_REST)))
        assert labels_of(last) == [LABELS[6]] * 3
        assert labels_of(await taken) == [LABELS[3]] * 5


async def rejected(answer: Awaitable[object]) -> Rejection:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return rejection_of(caught.value)


def assert_may_come_back(rejection: Rejection) -> None:
    assert (rejection.code, rejection.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    facts = {"queued": "5", "limit": "8", "setting": "max_queue_faces"}
    assert rejection.metadata == facts | {"retry_safe": "true"}
    assert rejection.retry_delay_ms is not None
    assert rejection.retry_delay_ms > 0


async def test_model_infer_is_rejected(full_server: HttpServer) -> None:
    request = infer_request(crops(*TOO_MANY))
    assert_may_come_back(await rejected(ask(full_server.server.channel, "ModelInfer", request)))


async def test_a_message_of_a_stream_is_rejected_and_the_stream_goes_on(full_server: HttpServer) -> None:
    stream = open_stream(full_server.server.channel)
    await stream.write(infer_request(crops(*TOO_MANY), id="rejected"))
    answer = await stream.read()
    assert "max_queue_faces" in answer.error_message
    assert answer.infer_response.id == "rejected"
    await stream.write(infer_request(crops(1), id="taken", model_name="other"))
    assert "other" in (await stream.read()).error_message
    with contextlib.suppress(asyncio.CancelledError):
        stream.cancel()


async def test_a_stream_that_asks_for_it_ends_with_the_rejection(full_server: HttpServer) -> None:
    stream = open_stream(full_server.server.channel, (("triton_grpc_error", "true"),))
    await stream.write(infer_request(crops(*TOO_MANY)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_predict_is_rejected(full_server: HttpServer) -> None:
    faces = crops(*TOO_MANY)
    request = tfs("PredictRequest", model_spec={"name": "fer-nano"})
    request.inputs["faces"].dtype, request.inputs["faces"].tensor_content = 4, faces.tobytes()
    for size in faces.shape:
        request.inputs["faces"].tensor_shape.dim.add(size=size)
    answer = call(full_server.server.channel, PREDICTION, "Predict", request, "tensorflow.serving.PredictResponse")
    assert_may_come_back(await rejected(answer))


async def test_infer_over_http_is_rejected(full_server: HttpServer) -> None:
    faces = crops(*TOO_MANY)
    tensor = {"name": "faces", "datatype": "UINT8", "shape": list(faces.shape), "data": faces.ravel().tolist()}
    answer = await full_server.ask("/v2/models/fer-nano/infer", json.dumps({"inputs": [tensor]}).encode())
    assert answer.rejection == (429, "QUEUE_FULL")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["retry_after_ms"] > 0
