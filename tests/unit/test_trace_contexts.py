"""Tests trace contexts, sampling, and where spans are current."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.trace import (
    SpanRef,
    format_traceparent,
    inside,
    parse_traceparent,
    sampled_spans,
    traced_context,
)
from ferserve_server.grpc.request import read_request
from ferserve_server.runtime.eager_task import EagerTask
from ferserve_server.telemetry.logging import record_processors
from ferserve_server.telemetry.otlp import TracingError, is_wanted, opened_tracer
from ferserve_server.telemetry.sampling import Sampler, SamplerError, read_sampler

SPAN = SpanRef(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
IDS = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [(f"00-{IDS}-01", True), (f"00-{IDS}-00", False), (f"00-{IDS}-03", True), (f"cc-{IDS}-01-later", True)],
)
def test_a_valid_traceparent_is_read(text: str, sampled: bool) -> None:
    parent = parse_traceparent(text)
    assert parent is not None
    assert (parent.span, parent.sampled) == (SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{IDS}-01",
        f"00-{IDS}-01-more",
        f"00-{IDS.upper()}-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        f"00-{IDS}-1",
        f"00-{IDS}-01\n",
        f"00-{IDS[:-1]}٣-01",
    ],
)
def test_an_invalid_traceparent_is_as_none(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_a_traceparent_that_was_written_is_read_as_it_was(trace_id: int, span_id: int) -> None:
    parent = parse_traceparent(format_traceparent(SpanRef(trace_id, span_id)))
    assert parent is not None
    assert parent == ((trace_id, span_id), True)


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    parse_traceparent(text)


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", Sampler(True, 1.0)),
        ("always_on", "", Sampler(False, 1.0)),
        ("parentbased_always_off", "", Sampler(True, 0.0)),
        ("traceidratio", "0.25", Sampler(False, 0.25)),
        ("parentbased_traceidratio", "", Sampler(True, 1.0)),
    ],
)
def test_the_standard_variables_name_the_sampler(name: str, argument: str, expected: Sampler) -> None:
    assert read_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}) == expected


@pytest.mark.parametrize(("name", "argument"), [("jaeger", ""), ("traceidratio", "2"), ("traceidratio", "half")])
def test_a_sampler_that_is_none_is_reported(name: str, argument: str) -> None:
    with pytest.raises(SamplerError, match=r"use .*"):
        read_sampler({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})


def test_the_callers_flag_decides_and_without_a_caller_the_ratio() -> None:
    sampled, other = (parse_traceparent(f"00-{IDS}-{flags}") for flags in ("01", "00"))
    for sampler in (Sampler(True, 0.0), Sampler(True, 1.0)):
        assert sampler.samples(sampled, SPAN.trace_id)
        assert not sampler.samples(other, SPAN.trace_id)
    assert not Sampler(False, 0.0).samples(sampled, SPAN.trace_id)
    assert Sampler(False, 1.0).samples(other, 2**128 - 1)
    quarter = Sampler(True, 0.25)
    assert quarter.samples(None, 2**62 - 1)
    assert not quarter.samples(None, 2**62)


def test_traces_are_wanted_where_the_variables_say_where_to_send_them() -> None:
    assert not is_wanted({})
    assert is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})
    assert is_wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"})
    assert is_wanted({"OTEL_TRACES_EXPORTER": "console"})
    assert not is_wanted({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})
    assert not is_wanted({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "use otlp, console or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "use grpc or http/protobuf",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "sometimes"}, "use always_on"),
    ],
)
def test_variables_that_cannot_be_followed_are_reported(variables: dict[str, str], text: str) -> None:
    with pytest.raises(TracingError, match=text), opened_tracer(variables, "1"):
        pass


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    variables = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with pytest.raises(TracingError, match=r"install ferserve-server\[otel\]"), opened_tracer(variables, "1"):
        pass


def test_headers_of_one_call_are_not_kept_with_those_that_clients_repeat() -> None:
    repeated = ((b":method", b"POST"), (b":path", b"/s/M"), (b"content-type", b"application/grpc"), (b"a", b"1"))
    plain = read_request(repeated)
    traced = [read_request((*repeated, (b"traceparent", b"%d" % number))) for number in range(3)]
    assert [head.metadata for head in traced] == [(("a", "1"), ("traceparent", str(n))) for n in range(3)]
    assert read_request(repeated) is plain


async def test_spans_are_current_in_the_eager_task_that_they_were_given_to_and_nowhere_else() -> None:
    loop = asyncio.get_running_loop()
    released, seen = loop.create_future(), []

    async def work() -> None:
        seen.append(sampled_spans.get())
        await released
        seen.append(sampled_spans.get())

    EagerTask(work(), lambda: None, traced_context((SPAN,)))
    assert sampled_spans.get() == ()
    released.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [(SPAN,), (SPAN,)]
    assert sampled_spans.get() == ()


def test_log_records_of_a_sampled_call_name_its_trace() -> None:
    def rendered() -> dict[str, str]:
        event: object = {"event": "happened"}
        for process in record_processors("json"):
            event = process(None, "info", event)
        assert isinstance(event, str)
        return dict(json.loads(event))

    with inside((SPAN,)):
        assert rendered()["trace_id"] == IDS[:32]
    assert "trace_id" not in rendered()
