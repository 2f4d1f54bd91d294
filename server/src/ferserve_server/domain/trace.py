"""Defines trace contexts (W3C Trace Context, level 1) and the ports that record spans.

Only sampled work has spans. The context variable `sampled_spans` holds those of the call that runs, and is empty
otherwise, so that code without tracing pays one look at it. What a call leaves to others, such as a batch or a
timer, is not part of the call: it is started without them (`untraced_context`).
"""

from __future__ import annotations

import contextlib
import contextvars
import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ferserve_server.domain.servable import ServableId

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
"""Form of the header; ids of zeros are invalid."""

_SAMPLED: Final = 1
_TRACEPARENT_LENGTH: Final = 55


class SpanRef(NamedTuple):
    """Identifies a span.

    Attributes:
        trace_id: 1 to 2**128 - 1.
        span_id: 1 to 2**64 - 1.
    """

    trace_id: int
    span_id: int

    @property
    def trace_id_hex(self) -> str:
        """Returns the trace's id as 32 hexadecimal digits, as traces are looked up."""
        return f"{self.trace_id:032x}"


class RemoteParent(NamedTuple):
    """Holds the trace context that a caller sent.

    Attributes:
        span: The caller's span.
        sampled: Whether the caller records it.
    """

    span: SpanRef
    sampled: bool


def parse_traceparent(text: str) -> RemoteParent | None:
    """Parses the header `traceparent`; None if it is invalid, of which callers do not learn (W3C, 4.3)."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # Version ff is invalid; later versions may add fields, version 00 has none.
    if version == "ff" or (version == "00" and rest):
        return None
    span = SpanRef(int(trace_id, 16), int(span_id, 16))
    return RemoteParent(span, bool(int(flags, 16) & _SAMPLED))


def is_unsampled(text: str) -> bool:
    """Returns whether this is a valid `traceparent` without a flag, as nearly all are. Faster than reading it."""
    return text.endswith("-00") and len(text) == _TRACEPARENT_LENGTH and _TRACEPARENT.fullmatch(text) is not None


def format_traceparent(span: SpanRef) -> str:
    """Formats the header `traceparent` of a sampled span."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-01"


sampled_spans: contextvars.ContextVar[tuple[SpanRef, ...]] = contextvars.ContextVar("sampled_spans", default=())
"""Spans that new ones are children of: one of a call; several where worker processes send calls as one."""


@contextlib.contextmanager
def inside(spans: tuple[SpanRef, ...]) -> Iterator[None]:
    """Makes spans the current ones for the duration of the block."""
    token = sampled_spans.set(spans)
    try:
        yield
    finally:
        sampled_spans.reset(token)


def traced_context(spans: tuple[SpanRef, ...]) -> contextvars.Context:
    """Copies the current context, with these spans as the current ones."""
    context = contextvars.copy_context()
    context.run(sampled_spans.set, spans)
    return context


def untraced_context() -> contextvars.Context:
    """Copies the current context without its spans, for work that is not the current call's."""
    return traced_context(())


class Operation(NamedTuple):
    """Names what a call asks for, as its span shows it.

    Attributes:
        name: Name of the span.
        attributes: Attributes by OpenTelemetry's semantic conventions.
    """

    name: str
    attributes: tuple[tuple[str, str], ...]

    @classmethod
    def rpc(cls, service: str, method: str) -> Operation:
        """Names a gRPC method by its service's full name and its own."""
        name = f"{service}/{method}"
        return cls(name, (("rpc.system.name", "grpc"), ("rpc.method", name)))

    @classmethod
    def http(cls, method: str, route: str) -> Operation:
        """Names an HTTP request by its method and the template of its path."""
        return cls(f"{method} {route}", (("http.request.method", method), ("http.route", route)))


class CallTrace(Protocol):
    """Records the span of one sampled call or stream message. Event loop only.

    Attributes:
        span: Its span.
    """

    span: SpanRef

    def set_attribute(self, name: str, value: str | int) -> None:
        """Adds an attribute."""

    def end(self, code: str, reason: str = "") -> None:
        """Records the end; later ends do nothing.

        Args:
            code: Name of the call's gRPC status; "" for a message of a stream.
            reason: Reason of a failure, or "".
        """


class StreamTrace(Protocol):
    """Samples the messages of one stream, which has no span of its own: it may last for days. Event loop only."""

    def begin_message(self) -> CallTrace | None:
        """Begins the span of a message that arrived; None if it is not sampled."""


class CallTracer(Protocol):
    """Records calls. Event loop only; must not raise or block."""

    def begin(self, operation: Operation, metadata: Iterable[tuple[str, str | bytes]]) -> CallTrace | None:
        """Begins the span of a call with these headers; None if it is not sampled."""

    def begin_stream(
        self, operation: Operation, metadata: Iterable[tuple[str, str | bytes]]
    ) -> StreamTrace | None:
        """Begins to trace a stream with these headers; None if none of its messages will be sampled."""


current_stream: contextvars.ContextVar[StreamTrace | None] = contextvars.ContextVar("current_stream", default=None)
"""The stream whose handler runs, for the pipeline to sample its messages."""


class BatchMember(NamedTuple):
    """Describes a sampled request's rows in a batch.

    Attributes:
        spans: The spans of the call.
        enqueued_at: When the request was accepted, in seconds; None if earlier rows of it ran before.
        face_count: Its rows in the batch.
    """

    spans: tuple[SpanRef, ...]
    enqueued_at: float | None
    face_count: int


class TracedBatch(NamedTuple):
    """Describes an executed batch with sampled rows. Times are on the server's clock, in seconds.

    Attributes:
        span: Span of the batch, as `BatchTracer.new_batch` made it.
        servable: The version.
        dispatch_reason: Why it was dispatched then.
        face_count: Its rows.
        padded_count: Rows that were executed, padding included.
        dispatched_at: When it was dispatched.
        started_at: When its execution began.
        executed_at: When its execution ended.
        ended_at: When its result was known here.
        members: Its sampled requests.
        error: Why its execution failed; "" if it did not.
    """

    span: SpanRef
    servable: ServableId
    dispatch_reason: str
    face_count: int
    padded_count: int
    dispatched_at: float
    started_at: float
    executed_at: float
    ended_at: float
    members: Sequence[BatchMember]
    error: str


class BatchTracer(Protocol):
    """Records batches with sampled rows. Event loop only; must not raise or block."""

    def new_batch(self) -> SpanRef:
        """Makes the root span of a batch, which is recorded by `batch_executed`."""

    def batch_executed(self, batch: TracedBatch) -> None:
        """Records a batch, and its members' waits and executions."""

    def left_queue(self, spans: tuple[SpanRef, ...], enqueued_at: float, reason: str) -> None:
        """Records the wait of a request that left the queue without being executed, and why it did."""
