"""Tests metrics, their recording, and logs."""

import json
import threading

import numpy as np
import pytest
import structlog

from ferserve_server.domain import metrics
from ferserve_server.domain.metrics import DURATION_BUCKETS_S, METRICS
from ferserve_server.domain.ports import DispatchReason, ExecutedBatch
from ferserve_server.domain.servable import Precision, ServableId, ServableState
from ferserve_server.telemetry.logging import set_up_logging
from ferserve_server.telemetry.recorder import PrometheusRecorder

NET = ServableId("net", 3)
LABELS = {"model": "net", "version": "3"}
CLASSES = ("calm", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture
def recorder():
    return PrometheusRecorder()


def families(recorder):
    return {family.name: family for family in recorder.registry.collect() if family.name.startswith("ferserve_")}


def scores(*rows):
    return np.array(rows, np.float32)


def observer_of(recorder):
    recorder.engine_started(NET, CLASSES, Precision.BFLOAT16)
    return recorder


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_declared_metric_is_exported_with_its_labels(recorder, metric):
    labels = {name: f"a {name}" for name in metric.labels}
    match metric:
        case metrics.Counter():
            recorder.count(metric, *labels.values(), amount=2)
            sample, expected = metric.name, 2
        case metrics.Histogram():
            recorder.observe(metric, 0.25, *labels.values())
            recorder.observe(metric, 0.5, *labels.values())
            sample, expected = f"{metric.name}_sum", 0.75
        case metrics.Gauge():
            recorder.set(metric, 3, *labels.values())
            recorder.add(metric, -1, *labels.values())
            sample, expected = metric.name, 2
    value = recorder.registry.get_sample_value
    assert value(f"ferserve_{sample}", labels) == expected
    if isinstance(metric, metrics.Gauge) and labels:
        recorder.remove(metric, *labels.values())
        recorder.remove(metric, *labels.values())
        assert value(f"ferserve_{sample}", labels) is None
    assert metric.text.endswith(".")


def test_labels_that_are_known_are_exported_before_the_first_event(recorder):
    value = recorder.registry.get_sample_value
    assert value("ferserve_stream_frames_dropped_total", {"reason": "newer"}) == 0


def test_a_version_computes_in_one_precision_until_it_is_gone(recorder):
    def shown(precision):
        labels = {**LABELS, "precision": precision}
        return recorder.registry.get_sample_value("ferserve_servable_precision", labels)

    observer_of(recorder)
    assert (shown("float32"), shown("bfloat16")) == (None, 1)
    recorder.engine_started(NET, CLASSES, Precision.FLOAT32)
    assert (shown("float32"), shown("bfloat16")) == (1, None)
    recorder.state_changed(NET, ServableState.UNLOADED)
    assert (shown("float32"), shown("bfloat16")) == (None, None)


def test_durations_are_distinguished_from_50_microseconds_on(recorder):
    recorder.observe(metrics.INFERENCE_SECONDS, 70e-6, "net")

    value = recorder.registry.get_sample_value
    assert DURATION_BUCKETS_S[0] == 50e-6
    assert value("ferserve_inference_seconds_bucket", {"model": "net", "le": "5e-05"}) == 0
    assert value("ferserve_inference_seconds_bucket", {"model": "net", "le": "0.0001"}) == 1


def test_a_batch_is_counted_by_faces_padding_reason_class_and_confidence(recorder):
    rows = scores([0.1, 0.9, 0, 0, 0, 0, 0], [0.2, 0.8, 0, 0, 0, 0, 0], [0, 0, 0, 0.7, 0.3, 0, 0])
    observer_of(recorder).batch_executed(ExecutedBatch(NET, DispatchReason.FULL, 4, 0.002, 0.001, rows))

    value = recorder.registry.get_sample_value
    assert value("ferserve_faces_total", LABELS) == 3
    assert value("ferserve_padding_faces_total", LABELS) == 1
    assert value("ferserve_batches_total", LABELS | {"dispatch_reason": "full"}) == 1
    assert value("ferserve_predictions_total", LABELS | {"emotion": "disgust"}) == 2
    assert value("ferserve_predictions_total", LABELS | {"emotion": "happy"}) == 1
    assert value("ferserve_confidence_sum_total", LABELS) == pytest.approx(2.4)
    assert value("ferserve_queue_seconds_sum", {"model": "net"}) == pytest.approx(0.002)


def test_scores_that_are_no_numbers_do_not_spoil_the_confidence(recorder):
    observer_of(recorder).batch_executed(
        ExecutedBatch(NET, DispatchReason.FULL, 1, 0.0, 0.0, scores([np.nan] * 7))
    )

    assert not recorder.registry.get_sample_value("ferserve_confidence_sum_total", LABELS)


def test_exactly_one_state_of_a_version_is_set(recorder):
    recorder.state_changed(NET, ServableState.LOADING)
    recorder.state_changed(NET, ServableState.READY)

    value = recorder.registry.get_sample_value
    states = {
        state.value: value("ferserve_servable_state", LABELS | {"state": state.value}) for state in ServableState
    }
    assert states == {"waiting": 0, "loading": 0, "ready": 1, "draining": 0, "unloaded": 0, "failed": 0}


def test_an_engine_is_asked_at_every_scrape_until_it_is_unloaded(recorder):
    health = [True]
    recorder.watch_engine(NET, depth_faces=lambda: 7, oldest_age_s=lambda: 1.5, healthy=lambda: health[0])
    value = recorder.registry.get_sample_value
    assert value("ferserve_engine_healthy", LABELS) == 1
    health[0] = False
    assert value("ferserve_engine_healthy", LABELS) == 0
    assert value("ferserve_queue_oldest_age_seconds", LABELS) == 1.5
    assert value("ferserve_queue_depth_faces", LABELS) == 7

    recorder.state_changed(NET, ServableState.UNLOADED)

    assert value("ferserve_engine_healthy", LABELS) is None


def test_of_many_values_none_is_missing_whenever_they_are_recorded(recorder):
    value, method = recorder.registry.get_sample_value, {"method": "ClassifyFaces"}
    for number in range(300):
        recorder.add(metrics.REQUESTS_IN_PROGRESS, 1, "ClassifyFaces")
        if number % 3:
            recorder.add(metrics.REQUESTS_IN_PROGRESS, -1, "ClassifyFaces")
            recorder.count(metrics.REQUESTS, "ClassifyFaces", "OK")
            recorder.observe(metrics.REQUEST_SECONDS, 0.003, "ClassifyFaces")
        if number == 150:
            assert value("ferserve_requests_in_progress", method) == 51

    assert value("ferserve_requests_in_progress", method) == 100
    assert value("ferserve_requests_total", method | {"code": "OK"}) == 200
    assert value("ferserve_request_seconds_count", method) == 200
    assert value("ferserve_request_seconds_sum", method) == pytest.approx(0.6)


def test_values_from_several_threads_are_all_recorded(recorder):
    def record():
        for _ in range(1000):
            recorder.count(metrics.REJECTIONS, "QUEUE_FULL")

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.registry.get_sample_value("ferserve_rejections_total", {"reason": "QUEUE_FULL"}) == 4000


@pytest.fixture
def log_lines(capsys):
    """What the log has written; the tests' own set-up is put back afterwards."""
    before = structlog.get_config()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.configure(**before)


def test_logs_are_one_object_a_line(log_lines):
    set_up_logging("info", "auto")
    log = structlog.get_logger()

    log.info("listening", port=50051)
    log.debug("not shown")

    (line,) = log_lines()
    assert (line["event"], line["port"], line["level"]) == ("listening", 50051, "info")


def fail_with(pixels):
    raise ValueError(f"broken after {len(pixels)}")


def test_traces_in_logs_hold_no_local_variables(log_lines):
    set_up_logging("info", "json")

    try:
        fail_with("the caller's pixels")
    except ValueError:
        structlog.get_logger().exception("batch failed")

    (line,) = log_lines()
    assert line["exception"][0]["exc_value"] == "broken after 19"
    assert "the caller's pixels" not in json.dumps(line)


def test_an_alias_that_is_removed_is_shown_no_longer(recorder):
    recorder.routed("net", {"stable": 1, "canary": 2}, 1)
    recorder.routed("net", {"stable": 3}, None)

    value = recorder.registry.get_sample_value
    assert value("ferserve_model_alias", {"model": "net", "alias": "stable"}) == 3
    assert value("ferserve_model_alias", {"model": "net", "alias": "canary"}) is None
    assert value("ferserve_model_serving_version", {"model": "net"}) == 0
