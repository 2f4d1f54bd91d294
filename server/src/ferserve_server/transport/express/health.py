"""grpc.health.v1.Health/Check at the express door. Like those of the gRPC server its calls are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ferserve_server.transport.express.faults import MessageFault
from ferserve_server.transport.express.trailers import INTERNAL, NOT_FOUND, RESOURCE_EXHAUSTED, status_block

if TYPE_CHECKING:
    from ferserve_server.services.health import HealthReporter
    from ferserve_server.transport.express.faults import Fault
    from ferserve_server.transport.express.stream import Stream


class HealthCall:
    """Implements `stream.Call`. Event loop only."""

    is_unary: ClassVar = True
    __slots__ = ("_health", "_message", "_stream")

    def __init__(self, health: HealthReporter, stream: Stream) -> None:
        self._health = health
        self._stream = stream
        self._message = b""

    def take(self, message: bytes) -> None:
        """Takes the message in; of several, the last one counts."""
        self._message = message

    def end(self) -> None:
        """Answers."""
        try:
            request = health_pb2.HealthCheckRequest.FromString(self._message)
        except DecodeError:
            self._stream.finish(status_block(INTERNAL, "These bytes are no HealthCheckRequest."))
            return
        status = self._health.status(request.service)
        if status is None:
            self._stream.finish(status_block(NOT_FOUND))
        else:
            self._stream.answer(health_pb2.HealthCheckResponse(status=status).SerializeToString())

    def fail(self, fault: Fault) -> None:
        """Answers with why the message cannot be taken."""
        too_long = status_block(RESOURCE_EXHAUSTED, str(fault))
        self._stream.finish(fault.trailers if isinstance(fault, MessageFault) else too_long)

    def writable(self) -> None:
        """There is nothing more to send."""

    def cancel(self) -> None:
        """There is nothing to stop."""
