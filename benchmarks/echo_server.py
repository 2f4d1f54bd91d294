"""Runs a bare grpc.aio server on the same loop: answers each message, unparsed, with bytes of ferserve's sizes.

Usage: echo_server.py HOST:PORT. Its cost for a call is the least that any Python gRPC server pays.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import grpc
import uvloop

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FACE_BYTES = 48 * 48
SERVICE = "ferserve.v1.EmotionService"
_SERVABLE = servable_pb2.ServableId(name="fer-nano", version=1)


def _prediction() -> face_pb2.Prediction:
    return face_pb2.Prediction(label_index=3, scores=[1 / 7] * 7)


def classify_answer(face_count: int) -> bytes:
    """Returns an answer of ClassifyFaces to so many faces."""
    results = [emotion_pb2.FaceResult(prediction=_prediction()) for _ in range(face_count)]
    answer = emotion_pb2.ClassifyFacesResponse(results=results, labels=LABELS, servable=_SERVABLE)
    return answer.SerializeToString()


def stream_answer(face_count: int) -> bytes:
    """Returns an answer of ClassifyStream to so many faces."""
    predictions = [_prediction() for _ in range(face_count)]
    answer = emotion_pb2.ClassifyStreamResponse(sequence_id=1, predictions=predictions, servable=_SERVABLE)
    return answer.SerializeToString()


_UNARY = {count: classify_answer(count) for count in (1, 32)}
_STREAM = {count: stream_answer(count) for count in (1, 32)}


async def unary(request: bytes, _context: object) -> bytes:
    """Answers a call."""
    return _UNARY[32 if len(request) > 32 * FACE_BYTES else 1]


async def stream(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
    """Answers each message."""
    async for request in requests:
        yield _STREAM[32 if len(request) > 32 * FACE_BYTES else 1]


async def serve(address: str) -> None:
    """Serves until the process is ended."""
    handlers: dict[str, Any] = {
        "ClassifyFaces": grpc.unary_unary_rpc_method_handler(unary),
        "ClassifyStream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if not server.add_insecure_port(address):
        sys.exit(f"cannot listen on {address}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
