"""Exports spans through OpenTelemetry's SDK, as its standard OTEL_* variables say. The only user of the SDK.

The SDK keeps the spans in a bounded queue and sends them on a thread of its own; what does not fit is lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.telemetry.sampling import SamplerError, read_sampler
from ferserve_server.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ferserve_server.domain.trace import SpanRef
    from ferserve_server.telemetry.tracing import Span

log = structlog.get_logger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_FLUSH_S: Final = 1.0
"""Longest time that the end of a process waits for the last spans to be sent, in seconds."""

_REPORT_INTERVAL_S: Final = 60.0
"""Shortest time between two log records about failed exports, in seconds."""

_KEPT_CONTEXTS: Final = 256
"""Contexts of spans that are kept to be used again: those of a few batches."""

MAX_LINKS: Final = 128
"""Links that a span keeps (OTEL_SPAN_LINK_COUNT_LIMIT's default)."""


class TracingError(Exception):
    """Reports variables that cannot be followed; the text says what to change."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Returns whether the variables ask for traces: by an exporter, or by an address to export to. Pure."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(environment.get(name, "").strip() for name in _ENDPOINTS)


@contextlib.contextmanager
def opened_tracer(environment: Mapping[str, str], version: str) -> Iterator[Tracer | None]:
    """Opens the export of traces, if the variables ask for it; on exit the last spans are sent.

    Args:
        environment: The variables of the process.
        version: The server's version.

    Yields:
        The tracer; None if no traces are wanted.

    Raises:
        TracingError: The variables cannot be followed, or the SDK is not installed.
    """
    if not is_wanted(environment):
        yield None
        return
    try:
        sampler = read_sampler(environment)
    except SamplerError as error:
        raise TracingError(str(error)) from None
    propagators = environment.get("OTEL_PROPAGATORS", "tracecontext").lower()
    sink = _SdkSink(_exporter(environment), version)
    try:
        yield Tracer(sink, sampler, propagates="tracecontext" in propagators)
    finally:
        sink.close()


def _exporter(environment: Mapping[str, str]) -> Any:  # noqa: ANN401 - a SpanExporter of an optional package
    name = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    protocol = next((environment[each] for each in _PROTOCOLS if environment.get(each)), "grpc").strip().lower()
    # Imported here, because the packages are optional and servers without traces need not spend 15 MiB on them.
    try:
        if name == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

            return ConsoleSpanExporter()
        if name != "otlp":
            raise TracingError(f"OTEL_TRACES_EXPORTER {name!r} is not offered: use otlp, console or none")
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter as GrpcExporter,
            )

            return GrpcExporter()
        if protocol == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter as HttpExporter,
            )

            return HttpExporter()
    except ModuleNotFoundError as error:
        raise TracingError(
            f"traces are wanted (OTEL_* variables), but {error.name} is not installed: "
            "install ferserve-server[otel], or set OTEL_SDK_DISABLED=true"
        ) from None
    raise TracingError(f"OTEL_EXPORTER_OTLP_PROTOCOL {protocol!r} is not offered: use grpc or http/protobuf")


class _SdkSink:
    """Implements `telemetry.tracing.SpanSink` on the SDK's queue. Thread-safe."""

    def __init__(self, exporter: Any, version: str) -> None:  # noqa: ANN401 - as above
        from opentelemetry import trace as api  # noqa: PLC0415
        from opentelemetry.sdk import trace as sdk  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        self._api, self._sdk = api, sdk
        self._unset, self._sampled = api.Status(), api.TraceFlags(api.TraceFlags.SAMPLED)
        self._contexts: dict[SpanRef, Any] = {}
        self._exporter = exporter
        self._reports = _ExportReports()
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self._reports)
        self._logger.propagate = False
        found = Resource.create()
        attributes = {"service.version": version, **found.attributes}
        if str(attributes.get("service.name", "")).startswith("unknown_service"):
            attributes["service.name"] = "ferserve"
        self._resource = Resource(attributes, found.schema_url)
        self._scope = InstrumentationScope("ferserve_server", version)
        self._processor = BatchSpanProcessor(exporter)

    def add(self, span: Span) -> None:
        """Queues a span for export."""
        api = self._api
        status = api.Status(api.StatusCode.ERROR, span.error) if span.error else self._unset
        self._processor.on_end(
            self._sdk.ReadableSpan(
                span.name,
                context=self._context(span.ref, span.state),
                parent=None if span.parent is None else self._context(span.parent, is_remote=span.is_remote),
                resource=self._resource,
                attributes=span.attributes,
                links=[api.Link(self._context(each)) for each in span.links[:MAX_LINKS]],
                kind=api.SpanKind.SERVER if span.is_server else api.SpanKind.INTERNAL,
                status=status,
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Sends what is queued, for a limited time: a collector that is gone must not hold the process up."""
        ending = threading.Thread(target=self._processor.shutdown, name="end-traces", daemon=True)
        ending.start()
        ending.join(_FLUSH_S)
        if ending.is_alive():
            self._exporter.shutdown()  # ends its retries
        self._logger.removeHandler(self._reports)

    def _context(self, ref: SpanRef, state: str = "", *, is_remote: bool = False) -> Any:  # noqa: ANN401 - as above
        api = self._api
        if state or is_remote:
            states = api.TraceState.from_header([state]) if state else None
            return api.SpanContext(ref.trace_id, ref.span_id, is_remote, self._sampled, states)
        context = self._contexts.get(
            ref
        )  # a span is its children's parent, and batches and calls link to each other
        if context is None:
            if len(self._contexts) >= _KEPT_CONTEXTS:
                self._contexts.clear()
            context = api.SpanContext(ref.trace_id, ref.span_id, is_remote=False, trace_flags=self._sampled)
            self._contexts[ref] = context
        return context


class _ExportReports(logging.Handler):
    """Writes what the SDK reports, such as a collector that does not answer, into the log; not every time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Logs a record, unless the last one was logged a moment ago."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + _REPORT_INTERVAL_S
            log.warning("traces not exported", reason=record.getMessage()[:500])
