"""Tests what the client passes on of the caller's trace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from ferserve_client.tracing import trace_arguments

if TYPE_CHECKING:
    import pytest


def test_within_a_span_its_context_is_passed_on() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("caller") as span:
        context = span.get_span_context()
        metadata = dict(trace_arguments()["metadata"])
    trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    assert metadata["traceparent"].startswith(f"00-{trace_id}-{span_id}-0")


def test_without_a_span_or_without_opentelemetry_calls_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trace_arguments() == {}
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    with TracerProvider().get_tracer("test").start_as_current_span("caller"):
        assert trace_arguments() == {}
