"""Records spans of calls, stream messages and batches.

Spans are made when they have ended, from times that the server keeps anyway, so a call that is not sampled costs
the search for one header. The span of an open call is its ids and its start.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ferserve_server.domain.trace import (
    TRACEPARENT,
    TRACESTATE,
    RemoteParent,
    SpanRef,
    is_unsampled,
    parse_traceparent,
    sampled_spans,
)
from ferserve_server.telemetry.sampling import RATIO_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ferserve_server.domain.ports import FoundFaces
    from ferserve_server.domain.trace import Operation, TracedBatch
    from ferserve_server.telemetry.sampling import Sampler

_MESSAGE_INTERVAL_S: Final = 1.0
"""Shortest time between two traced messages of a stream, in seconds: a camera sends 30 in it, for days."""

_OFFSET_AGE_S: Final = 60.0
"""Seconds after which the distance of the two clocks is measured again, because one of them is corrected."""

_SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Status codes that make a server's span an error (OpenTelemetry, semantic conventions of gRPC)."""


UNSAMPLED: Final = RemoteParent(SpanRef(0, 0), sampled=False)
"""Stands for every caller whose flag says that nothing is recorded."""


class Span(NamedTuple):
    """Holds a span that has ended.

    Attributes:
        name: Its name.
        ref: Its ids.
        parent: Its parent, or None.
        is_remote: Whether the parent is the caller's.
        is_server: Whether it is that of a call; else it is internal.
        start_ns: When it began, in nanoseconds since 1970.
        end_ns: When it ended.
        attributes: Its attributes.
        links: Spans of other traces that belong to it.
        error: Why it failed; "" if it did not.
        state: The caller's `tracestate`.
    """

    name: str
    ref: SpanRef
    parent: SpanRef | None
    is_remote: bool
    is_server: bool
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int]
    links: tuple[SpanRef, ...] = ()
    error: str = ""
    state: str = ""


class SpanSink(Protocol):
    """Takes spans that have ended. Thread-safe; must not raise or block."""

    def add(self, span: Span) -> None:
        """Takes a span."""


class Tracer:
    """Implements `domain.trace.CallTracer` and `domain.trace.BatchTracer`. Event loop only.

    Args of the constructor:
        sink: Takes the spans.
        sampler: Decides which calls are traced.
        propagates: Whether callers' trace contexts are read.
        now: The server's clock, in seconds.
        wall_ns: The time, in nanoseconds since 1970.
        random_bits: Makes ids.
    """

    def __init__(
        self,
        sink: SpanSink,
        sampler: Sampler,
        *,
        propagates: bool = True,
        now: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        random_bits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        self._sink = sink
        self._sampler = sampler
        self._root_bound = sampler.bound
        self._propagates = propagates
        self.now = now
        self._wall_ns = wall_ns
        self._random_bits = random_bits
        self._offset_ns = 0
        self._offset_until = float("-inf")

    def begin(self, operation: Operation, metadata: Iterable[tuple[str, str | bytes]]) -> OpenSpan | None:
        """Begins the span of a call; see `domain.trace.CallTracer`."""
        parent, state = self._caller(metadata) if metadata else (None, "")
        if parent is None:
            trace_id = self._random_id(128)
            if trace_id & RATIO_MASK >= self._root_bound:
                return None
        elif parent is UNSAMPLED or not self._sampler.samples(parent, parent.span.trace_id):
            return None
        else:
            trace_id = parent.span.trace_id
        span = SpanRef(trace_id, self._random_id(64))
        return OpenSpan(self, operation, span, None if parent is None else parent.span, (), state)

    def begin_stream(
        self, operation: Operation, metadata: Iterable[tuple[str, str | bytes]]
    ) -> MessageSampler | None:
        """Begins to trace a stream; see `domain.trace.CallTracer`."""
        parent, _ = self._caller(metadata)
        if parent is not None and self._sampler.follows_parent and not parent.sampled:
            return None
        return MessageSampler(self, operation, parent)

    def begin_message(self, operation: Operation, parent: RemoteParent | None) -> OpenSpan | None:
        """Begins the span of a message, in a trace of its own that links to the stream's caller."""
        trace_id = self._random_id(128)
        if not self._sampler.samples(parent, trace_id):
            return None
        links = () if parent is None else (parent.span,)
        return OpenSpan(self, operation, SpanRef(trace_id, self._random_id(64)), None, links, "")

    def new_batch(self) -> SpanRef:
        """Makes the span of a batch; see `domain.trace.BatchTracer`."""
        return SpanRef(self._random_id(128), self._random_id(64))

    def batch_executed(self, batch: TracedBatch) -> None:
        """Records a batch with its execution, and the queue and inference spans of its members."""
        about: dict[str, str | int] = {
            "ferserve.model": batch.servable.name,
            "ferserve.version": batch.servable.version,
            "ferserve.dispatch_reason": batch.dispatch_reason,
            "ferserve.batch_faces": batch.face_count,
        }
        links: list[SpanRef] = []
        for member in batch.members:
            for parent in member.spans:
                if member.enqueued_at is not None:
                    waited: dict[str, str | int] = {"ferserve.dispatch_reason": batch.dispatch_reason}
                    self.record("queue", parent, member.enqueued_at, batch.dispatched_at, waited)
                links.append(
                    self.record(
                        "inference",
                        parent,
                        batch.dispatched_at,
                        batch.ended_at,
                        about | {"ferserve.faces": member.face_count},
                        links=(batch.span,),
                        error=batch.error,
                    )
                )
        padded = about | {"ferserve.padded_faces": batch.padded_count}
        self.record("execute", batch.span, batch.started_at, batch.executed_at, padded, error=batch.error)
        begin_ns, end_ns = self.wall_clock_ns(batch.dispatched_at), self.wall_clock_ns(batch.ended_at)
        self.record_root(
            Span("batch", batch.span, None, False, False, begin_ns, end_ns, padded, tuple(links), batch.error)
        )

    def left_queue(self, spans: tuple[SpanRef, ...], enqueued_at: float, reason: str) -> None:
        """Records the wait of a request that was not executed; see `domain.trace.BatchTracer`."""
        for parent in spans:
            self.record("queue", parent, enqueued_at, self.now(), {}, error=reason)

    def record(
        self,
        name: str,
        parent: SpanRef,
        start: float,
        end: float,
        attributes: Mapping[str, str | int],
        *,
        links: tuple[SpanRef, ...] = (),
        error: str = "",
    ) -> SpanRef:
        """Records an internal span below another, between two times of the server's clock; returns it."""
        ref = SpanRef(parent.trace_id, self._random_id(64))
        begin_ns, end_ns = self.wall_clock_ns(start), self.wall_clock_ns(end)
        self._sink.add(Span(name, ref, parent, False, False, begin_ns, end_ns, attributes, links, error))
        return ref

    def record_root(self, span: Span) -> None:
        """Records the span of a call, message or batch that has ended."""
        self._sink.add(span)

    def wall_clock_ns(self, when: float) -> int:
        """Converts a time of the server's clock, in seconds, to nanoseconds since 1970."""
        now = self.now()
        if now >= self._offset_until:
            self._offset_ns = self._wall_ns() - round(now * 1e9)
            self._offset_until = now + _OFFSET_AGE_S
        return self._offset_ns + round(when * 1e9)

    def _caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[RemoteParent | None, str]:
        """Reads the caller's trace context; names of HTTP headers may have capitals."""
        parent, states = None, []
        if self._propagates:
            for name, value in metadata:
                if len(name) == len(TRACEPARENT) and name.lower() == TRACEPARENT and isinstance(value, str):
                    if self._sampler.follows_parent and is_unsampled(value):
                        return UNSAMPLED, ""
                    parent = parent or parse_traceparent(value)
                elif len(name) == len(TRACESTATE) and name.lower() == TRACESTATE and isinstance(value, str):
                    states.append(value)
        return parent, ",".join(states) if parent is not None else ""

    def _random_id(self, bits: int) -> int:
        return self._random_bits(bits) or 1


class OpenSpan:
    """Implements `domain.trace.CallTrace`. Event loop only.

    Attributes:
        operation: What was called.
        span: Its ids.
        parent: The caller's span, or None.
        links: Spans of other traces that belong to it.
        state: The caller's `tracestate`.
        started_at: When it began, on the server's clock, in seconds.
        attributes: Its attributes so far.
    """

    __slots__ = ("_tracer", "attributes", "links", "operation", "parent", "span", "started_at", "state")

    def __init__(
        self,
        tracer: Tracer,
        operation: Operation,
        span: SpanRef,
        parent: SpanRef | None,
        links: tuple[SpanRef, ...],
        state: str,
    ) -> None:
        self._tracer: Tracer | None = tracer
        self.operation = operation
        self.span = span
        self.parent = parent
        self.links = links
        self.state = state
        self.started_at = tracer.now()
        self.attributes: dict[str, str | int] = dict(operation.attributes)

    def set_attribute(self, name: str, value: str | int) -> None:
        """Adds an attribute."""
        self.attributes[name] = value

    def end(self, code: str, reason: str = "") -> None:
        """Records the span; see `domain.trace.CallTrace`."""
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        if code and "rpc.method" in self.attributes:
            self.attributes["rpc.response.status_code"] = code
        failure = reason or (code if code != "OK" else "")
        if failure:
            self.attributes["error.type"] = failure
        error = failure if not code or code in _SERVER_FAULTS else ""
        begin_ns, end_ns = tracer.wall_clock_ns(self.started_at), tracer.wall_clock_ns(tracer.now())
        tracer.record_root(
            Span(
                self.operation.name,
                self.span,
                self.parent,
                is_remote=self.parent is not None,
                is_server=True,
                start_ns=begin_ns,
                end_ns=end_ns,
                attributes=self.attributes,
                links=self.links,
                error=error,
                state=self.state,
            )
        )


class MessageSampler:
    """Implements `domain.trace.StreamTrace`. Event loop only."""

    def __init__(self, tracer: Tracer, operation: Operation, parent: RemoteParent | None) -> None:
        self._tracer = tracer
        self._operation = operation._replace(name=f"{operation.name} message")
        self._parent = parent
        self._next_at = float("-inf")

    def begin_message(self) -> OpenSpan | None:
        """Begins the span of a message; see `domain.trace.StreamTrace`."""
        now = self._tracer.now()
        if now < self._next_at:
            return None
        trace = self._tracer.begin_message(self._operation, self._parent)
        if trace is not None:
            self._next_at = now + _MESSAGE_INTERVAL_S
        return trace


class VisionSpans:
    """Records decoding and detection; implements `domain.ports.VisionTracer` in the context of the call."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def faces_found(self, found: FoundFaces) -> None:
        """Records a picture that was read, if its call is sampled."""
        for span in sampled_spans.get():
            end = self._tracer.now()
            decoded_at = end - found.detect_s
            size: dict[str, str | int] = {
                "ferserve.image_width": found.width, "ferserve.image_height": found.height
            }  # fmt: skip
            self._tracer.record("decode", span, decoded_at - found.decode_s, decoded_at, size)
            if found.detect_s > 0:  # a picture taken as one face is not searched
                faces = len(found.locations) + found.omitted_face_count
                self._tracer.record("detect", span, decoded_at, end, {"ferserve.faces": faces})

    def crops_read(self, image_count: int, seconds: float) -> None:
        """Records the decoding of encoded crops, with the wait for a thread."""
        for span in sampled_spans.get():
            end = self._tracer.now()
            self._tracer.record("decode", span, end - seconds, end, {"ferserve.images": image_count})
