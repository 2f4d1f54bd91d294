"""Runs a real OTLP receiver, on grpcio's server with the stubs of `opentelemetry-proto`, and reads what it got."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SERVER_KIND = 2
INTERNAL_KIND = 1
ERROR_STATUS = 2
WAIT_S = 30.0


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was exported."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    is_error: bool
    error: str
    state: str
    resource: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Its ids, as links name it."""
        return self.trace_id, self.span_id


class OtlpReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Receives spans until the block is left.

    Attributes:
        endpoint: What OTEL_EXPORTER_OTLP_ENDPOINT names.
        spans: What has arrived so far.
    """

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a server export here, soon after a span has ended."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the stubs' name
        """Takes spans."""
        del context
        read = [
            _read(span, _values(group.resource.attributes))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self.spans += read
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name so far."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Waits until a condition on the spans holds. Blocking."""
        give_up_at = time.monotonic() + WAIT_S
        with self._arrived:
            while not condition():
                left_s = give_up_at - time.monotonic()
                assert left_s > 0, f"not so within {WAIT_S:g} s; there are {sorted(s.name for s in self.spans)}"
                self._arrived.wait(left_s)

    def children(self, parent: ReceivedSpan) -> dict[str, list[ReceivedSpan]]:
        """The spans below another, by name."""
        found: dict[str, list[ReceivedSpan]] = {}
        for span in self.spans:
            if span.trace_id == parent.trace_id and span.parent_id == parent.span_id:
                found.setdefault(span.name, []).append(span)
        return found


def _read(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == ERROR_STATUS,
        span.status.message,
        span.trace_state,
        resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
