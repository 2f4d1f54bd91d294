"""Implements grpc.health.v1.Health/Check. As in gRPC's own server, its calls are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ferserve_server.grpc.errors import MessageError
from ferserve_server.grpc.trailers import INTERNAL, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED, status_trailers

if TYPE_CHECKING:
    from ferserve_server.grpc.errors import ReceiveError
    from ferserve_server.grpc.stream import GrpcStream
    from ferserve_server.services.health import HealthReporter


class HealthCall:
    """Implements `stream.Call`. Event loop only."""

    is_unary: ClassVar = True
    ready: ClassVar = True
    __slots__ = ("_health", "_messages", "_stream")

    def __init__(self, health: HealthReporter, stream: GrpcStream) -> None:
        self._health = health
        self._stream = stream
        self._messages: list[bytes] = []

    def on_message(self, message: bytes) -> None:
        """Stores the message."""
        self._messages.append(message)
        if len(self._messages) > 1:
            self._reject(UNIMPLEMENTED, "Check takes one message; there was more than one message.")

    def on_half_close(self) -> None:
        """Answers."""
        if not self._messages:
            self._reject(UNIMPLEMENTED, "Check takes one message; there was no message.")
            return
        try:
            request = health_pb2.HealthCheckRequest.FromString(self._messages[0])
        except DecodeError:
            self._reject(INTERNAL, "These bytes are no HealthCheckRequest.")
            return
        status = self._health.status(request.service)
        if status is None:
            self._reject(NOT_FOUND, "")
        else:
            self._stream.connection.charge_answer()
            self._stream.answer(health_pb2.HealthCheckResponse(status=status).SerializeToString())

    def on_error(self, error: ReceiveError) -> None:
        """Answers with the error."""
        if isinstance(error, MessageError):
            self._stream.finish(error.trailers, free=True)
        else:
            self._reject(RESOURCE_EXHAUSTED, str(error))

    def on_writable(self) -> None:
        """Does nothing: there is one answer."""

    def on_cancel(self) -> None:
        """Does nothing: no work is under way."""

    def _reject(self, code: int, text: str) -> None:
        self._stream.finish(status_trailers(code, text), free=True)
