"""Tests the metrics of several processes as one."""

from __future__ import annotations

import json

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ferserve_server.domain import metrics
from ferserve_server.domain.trace import SpanRef, inside
from ferserve_server.telemetry.aggregation import MergedRegistry, write_series
from ferserve_server.telemetry.recorder import PrometheusRecorder


def _values(registry) -> dict[str, float]:
    text = generate_latest(registry).decode()
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _calls(recorder: PrometheusRecorder, *seconds: float, open_count: int = 0) -> None:
    for each in seconds:
        recorder.add(metrics.REQUESTS_IN_PROGRESS, 1, "ClassifyFaces")
        recorder.add(metrics.REQUESTS_IN_PROGRESS, -1, "ClassifyFaces")
        recorder.count(metrics.REQUESTS, "ClassifyFaces", "OK")
        recorder.observe(metrics.REQUEST_SECONDS, each, "ClassifyFaces")
    for _ in range(open_count):
        recorder.add(metrics.REQUESTS_IN_PROGRESS, 1, "ClassifyFaces")


def _series(recorder: PrometheusRecorder) -> list:
    return json.loads(json.dumps(write_series(recorder.registry)))


@pytest.fixture
def primary() -> PrometheusRecorder:
    return PrometheusRecorder()


OK = "ferserve_requests_total[('code', 'OK'), ('method', 'ClassifyFaces')]"
COUNT = "ferserve_request_seconds_count[('method', 'ClassifyFaces')]"
FAST = "ferserve_request_seconds_bucket[('le', '0.001'), ('method', 'ClassifyFaces')]"
OPEN = "ferserve_requests_in_progress[('method', 'ClassifyFaces')]"


def test_counts_histograms_and_gauges_are_sums(primary: PrometheusRecorder) -> None:
    merged = MergedRegistry(primary.registry)
    one, other = PrometheusRecorder(), PrometheusRecorder()
    _calls(primary, 0.0005)
    _calls(one, 0.0005, 5.0, open_count=2)
    _calls(other, 5.0, open_count=1)
    merged.update("one", _series(one))
    merged.update("other", _series(other))
    values = _values(merged)
    assert (values[OK], values[COUNT], values[FAST], values[OPEN]) == (4, 4, 2, 3)


def test_a_process_that_is_gone_leaves_its_counts_and_takes_its_gauges(primary: PrometheusRecorder) -> None:
    merged = MergedRegistry(primary.registry)
    one = PrometheusRecorder()
    _calls(one, 0.0005, open_count=2)
    merged.update("one", _series(one))
    merged.ended("one")
    merged.ended("never seen")
    merged.update("its follower", _series(one))
    values = _values(merged)
    assert (values[OK], values[COUNT], values[OPEN]) == (2, 2, 2)


def test_without_other_processes_nothing_is_changed(primary: PrometheusRecorder) -> None:
    _calls(primary, 0.0005, 5.0)
    alone = {name: value for name, value in _values(primary.registry).items() if name.startswith("ferserve_")}
    merged = _values(MergedRegistry(primary.registry))
    assert {name: merged[name] for name in alone} == alone


def test_a_histogram_of_another_process_alone_is_whole_and_rises(primary: PrometheusRecorder) -> None:
    merged = MergedRegistry(primary.registry)
    one = PrometheusRecorder()
    _calls(one, 0.0005)
    merged.update("one", _series(one))
    text = generate_latest(merged).decode()
    buckets = [line for line in text.splitlines() if line.startswith("ferserve_request_seconds_bucket")]
    counts = [float(line.rsplit(" ", 1)[1]) for line in buckets]
    assert counts == sorted(counts)
    assert buckets[-1].startswith('ferserve_request_seconds_bucket{le="+Inf"')


def test_a_scrape_may_ask_for_names(primary: PrometheusRecorder) -> None:
    merged = MergedRegistry(primary.registry)
    one = PrometheusRecorder()
    _calls(one, 0.0005)
    merged.update("one", _series(one))
    assert _values(merged.restricted_registry(["ferserve_requests_total"])) == {OK: 1}


def test_exemplars_of_all_processes_are_shown_and_the_newest_wins(
    primary: PrometheusRecorder,
) -> None:
    merged = MergedRegistry(primary.registry)
    worker = PrometheusRecorder()
    first, second, third = SpanRef(1, 1), SpanRef(2, 1), SpanRef(3, 1)
    with inside((first,)):
        _calls(primary, 0.0005)
    with inside((second,)):
        _calls(worker, 0.0005)
    with inside((third,)):
        _calls(worker, 5.0)
    _calls(worker, 0.03)
    merged.update("worker", _series(worker))
    shown = {
        sample.labels["le"]: sample.exemplar.labels["trace_id"]
        for family in openmetrics.text_string_to_metric_families(generate_openmetrics(merged).decode())
        for sample in family.samples
        if sample.name == "ferserve_request_seconds_bucket" and sample.exemplar
    }
    assert shown == {"0.0005": second.trace_id_hex, "5.0": third.trace_id_hex}
    assert second.trace_id_hex not in generate_latest(merged).decode()
