"""What answers a call at the express door: own ways for small calls, a gRPC server's handlers for others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from grpc_health.v1.health import SERVICE_NAME

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.services.health import EMOTION_SERVICE
from ferserve_server.transport.express.crop_stream import CropStreamCall
from ferserve_server.transport.express.handler_call import HandlerCall
from ferserve_server.transport.express.health import HealthCall
from ferserve_server.transport.express.trailers import (
    INTERNAL,
    UNIMPLEMENTED,
    error_block,
    http_block,
    status_block,
)
from ferserve_server.transport.express.unary import UnaryCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.services.calls import Calls
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.transport.express.method_table import MethodTable
    from ferserve_server.transport.express.request_head import RequestHead
    from ferserve_server.transport.express.stream import Call, Stream


class Door:
    """Begins calls. Event loop only.

    Args of the constructor:
        calls: Takes calls in and sees them out.
        emotion: Answers those that have a way of their own here.
        health: What health checks are told.
        others: Answers all other methods.
    """

    def __init__(
        self, calls: Calls, emotion: EmotionServicer, health: HealthReporter, others: MethodTable
    ) -> None:
        self._calls = calls
        self._emotion = emotion
        self._health = health
        self._others = others
        self._open_streams: set[CropStreamCall] = set()
        self._methods: Final[dict[str, Callable[[Stream, RequestHead, CallerId], Call | None]]] = {
            f"/{EMOTION_SERVICE}/ClassifyFaces": self._classify_faces,
            f"/{EMOTION_SERVICE}/ClassifyStream": self._classify_stream,
            f"/{SERVICE_NAME}/Check": self._check,
        }

    def begin(self, stream: Stream, head: RequestHead, caller: CallerId = UNKNOWN_CALLER) -> Call | None:
        """Begins a call of a caller; None if it is refused, and so answered."""
        if head.http_status:
            stream.refuse(http_block(head.http_status))
            return None
        if head.fault:
            stream.finish(status_block(INTERNAL, head.fault))
            return None
        make = self._methods.get(head.path)
        if make is not None:
            return make(stream, head, caller)
        handler = self._others.find(head.path)
        if handler is not None:
            return HandlerCall(handler, stream, head, caller)
        stream.finish(status_block(UNIMPLEMENTED, f"{head.path[:100]} is no method of this server."))
        return None

    def _classify_faces(self, stream: Stream, head: RequestHead, caller: CallerId) -> Call:
        answer = partial(self._emotion.classify_faces, caller=caller)
        return UnaryCall(self._calls, "ClassifyFaces", answer, stream, head)

    async def drain_streams(self) -> None:
        """Waits for the drain, and has the streams end. Cancel to stop."""
        await self._calls.draining.wait()
        for call in list(self._open_streams):
            call.drain()

    def _classify_stream(self, stream: Stream, head: RequestHead, caller: CallerId) -> Call | None:
        opened = self._calls.open_stream("ClassifyStream", head.metadata)
        if opened.refusal is not None:
            opened.count(opened.refusal)
            stream.finish(error_block(opened.refusal))
            opened.close()
            return None
        return CropStreamCall(
            stream,
            opened,
            self._emotion.crop_sequence(caller),
            self._open_streams,
            max_unanswered=self._emotion.max_unanswered,
            timeout_s=head.timeout_s,
        )

    def _check(self, stream: Stream, head: RequestHead, caller: CallerId) -> Call:
        del head, caller
        return HealthCall(self._health, stream)
