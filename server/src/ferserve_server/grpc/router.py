"""Routes calls: to methods with a fast path of their own, and to handlers in the form of gRPC's server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from grpc_health.v1.health import SERVICE_NAME

from ferserve_server.domain.trace import Operation
from ferserve_server.grpc.crop_stream import CropStreamCall
from ferserve_server.grpc.handler_call import Handler, HandlerCall
from ferserve_server.grpc.health import HealthCall
from ferserve_server.grpc.stream import new_inflated_window
from ferserve_server.grpc.trailers import INTERNAL, UNIMPLEMENTED, error_trailers, http_status, status_trailers
from ferserve_server.grpc.unary import UnaryCall
from ferserve_server.services.health import EMOTION_SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import grpc

    from ferserve_server.grpc.request import RequestHead
    from ferserve_server.grpc.stream import Call, GrpcStream
    from ferserve_server.services.calls import Calls
    from ferserve_server.services.emotion import EmotionServicer
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.services.limits import RequestLimits

_CLASSIFY_FACES: Final = Operation.rpc(EMOTION_SERVICE, "ClassifyFaces")
_CLASSIFY_STREAM: Final = Operation.rpc(EMOTION_SERVICE, "ClassifyStream")


class Router:
    """Registers services as `grpc.aio.Server` does, so that one function works for both. Event loop only.

    Args of the constructor:
        limits: Bounds of a request.

    Attributes:
        limits: See above.
        inflated: Bounds large messages that were compressed, all calls together.
    """

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.inflated = new_inflated_window(limits.max_message_bytes)
        self._short: Final[dict[str, Callable[[GrpcStream], Call | None]]] = {}
        self._handlers: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds handlers that are queried for each path."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Adds the methods of a service, by name. Generated code calls both registrations."""
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def add_call(self, path: str, begin: Callable[[GrpcStream], Call | None]) -> None:
        """Adds a method that is answered without a Task; `begin` returns None if it has answered."""
        self._short[path] = begin

    def find(self, path: str) -> Handler | None:
        """Finds the handler of a path, /package.Service/Method; None if there is none."""
        known = self._handlers.get(path)
        if known is None:
            details: Any = _Details(path)
            for generic in self._generic:
                known = generic.service(details)
                if known is not None:
                    # Not for unknown paths, with which peers could fill memory.
                    self._handlers[path] = known
                    break
        return known

    def open(self, stream: GrpcStream, head: RequestHead) -> Call | None:
        """Starts a call; returns None if it is rejected, and so answered."""
        begin = self._short.get(head.path)
        if head.http_status:
            stream.reject(http_status(head.http_status))
        elif head.error:
            stream.finish(status_trailers(INTERNAL, head.error), free=True)
        elif begin is not None:
            return begin(stream)
        elif (handler := self.find(head.path)) is not None:
            return HandlerCall(handler, stream)
        else:
            text = f"{head.path[:100]} is no method of this server."
            stream.finish(status_trailers(UNIMPLEMENTED, text), free=True)
        return None


class EmotionCalls:
    """Adds the fast paths of the emotion service and of health checks to a router. Event loop only."""

    def __init__(self, router: Router, calls: Calls, emotion: EmotionServicer, health: HealthReporter) -> None:
        self._calls = calls
        self._emotion = emotion
        self._streams: set[CropStreamCall] = set()
        router.add_call(
            f"/{EMOTION_SERVICE}/ClassifyFaces",
            self._classify_faces,
        )
        router.add_call(f"/{EMOTION_SERVICE}/ClassifyStream", self._classify_stream)
        router.add_call(f"/{SERVICE_NAME}/Check", lambda stream: HealthCall(health, stream))

    async def drain_streams(self) -> None:
        """Waits for the drain, and then ends the streams. Cancel to stop."""
        await self._calls.draining.wait()
        for call in list(self._streams):
            call.drain()

    def _classify_faces(self, stream: GrpcStream) -> Call:
        answer = partial(self._emotion.classify_faces, caller=stream.caller)
        return UnaryCall(self._calls, _CLASSIFY_FACES, "ClassifyFaces", answer, stream)

    def _classify_stream(self, stream: GrpcStream) -> Call | None:
        opened = self._calls.open_stream(_CLASSIFY_STREAM, "ClassifyStream", stream.head.metadata)
        if opened.rejection is not None:
            opened.count(opened.rejection)
            stream.finish(error_trailers(opened.rejection))
            opened.close()
            return None
        emotion = self._emotion
        return CropStreamCall(
            stream,
            opened,
            emotion.crop_sequence(stream.caller, opened.trace),
            self._streams,
            max_unanswered=emotion.max_unanswered,
        )


class _Details:
    """Implements the part of `grpc.HandlerCallDetails` that generic handlers use."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method
