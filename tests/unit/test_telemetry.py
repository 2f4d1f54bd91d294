"""Tests metrics, their recording, and logs."""

import json

import numpy as np
import pytest
import structlog

from ferserve_server.domain.canary import CanaryResult, ShadowStatistics, Verdict
from ferserve_server.domain.ports import DispatchReason, ExecutedBatch, FoundFaces
from ferserve_server.domain.servable import Precision, ServableId, ServableState
from ferserve_server.telemetry.logging import set_up_logging
from ferserve_server.telemetry.metrics import DURATION_BUCKETS_S, Metrics
from ferserve_server.telemetry.recorder import (
    CallMetrics,
    CanaryMetrics,
    InferenceMetrics,
    RoutingMetrics,
    VisionMetrics,
)

NET = ServableId("net", 3)
LABELS = {"model": "net", "version": "3"}
CLASSES = ("calm", "disgust", "fear", "happy", "sad", "surprise", "neutral")

EXPORTED = {
    "batch_failures", "batch_size_faces", "batches", "build_info", "cancellations", "canary_requests",
    "connections", "connections_rejected", "stream_frame_age_seconds", "stream_frames_dropped",
    "canary_shadow_difference", "canary_shadow_faces", "canary_share", "canary_verdicts", "confidence_sum",
    "decode_seconds", "detect_seconds", "detected_faces", "engine_healthy",
    "engine_resident_bytes", "engine_restarts", "faces", "image_failures",
    "inference_seconds", "model_alias", "model_serving_version", "padding_faces", "predictions",
    "queue_depth_faces", "queue_oldest_age_seconds", "queue_seconds", "rejections", "request_seconds",
    "background_failures", "worker_processes", "worker_restarts", "log_lines_dropped",
    "requests", "requests_in_progress", "servable_precision",
    "servable_state", "stream_answers",
}  # fmt: skip
"""Dashboards and alerts that people own stand on these names."""


@pytest.fixture
def metrics():
    return Metrics()


def families(metrics):
    return {family.name: family for family in metrics.registry.collect() if family.name.startswith("ferserve_")}


def scores(*rows):
    return np.array(rows, np.float32)


def observer_of(metrics):
    observer = InferenceMetrics(metrics)
    observer.engine_started(NET, CLASSES, Precision.BFLOAT16)
    return observer


def test_the_names_that_are_exported_are_these(metrics):
    assert set(families(metrics)) == {f"ferserve_{name}" for name in EXPORTED}


def test_a_version_computes_in_one_precision_until_it_is_gone(metrics):
    def shown(precision):
        labels = {**LABELS, "precision": precision}
        return metrics.registry.get_sample_value("ferserve_servable_precision", labels)

    observer = observer_of(metrics)
    assert (shown("float32"), shown("bfloat16")) == (None, 1)
    observer.engine_started(NET, CLASSES, Precision.FLOAT32)
    assert (shown("float32"), shown("bfloat16")) == (1, None)
    observer.state_changed(NET, ServableState.UNLOADED)
    assert (shown("float32"), shown("bfloat16")) == (None, None)


def test_every_metric_says_what_it_means(metrics):
    assert all(family.documentation.endswith(".") for family in families(metrics).values())


def test_durations_are_told_apart_from_50_microseconds_on(metrics):
    metrics.inference_seconds.labels("net").observe(70e-6)

    value = metrics.registry.get_sample_value
    assert DURATION_BUCKETS_S[0] == 50e-6
    assert value("ferserve_inference_seconds_bucket", {"model": "net", "le": "5e-05"}) == 0
    assert value("ferserve_inference_seconds_bucket", {"model": "net", "le": "0.0001"}) == 1


def test_a_batch_is_counted_by_faces_padding_reason_class_and_confidence(metrics):
    rows = scores([0.1, 0.9, 0, 0, 0, 0, 0], [0.2, 0.8, 0, 0, 0, 0, 0], [0, 0, 0, 0.7, 0.3, 0, 0])
    observer_of(metrics).batch_executed(ExecutedBatch(NET, DispatchReason.FULL, 4, 0.002, 0.001, rows))

    value = metrics.registry.get_sample_value
    assert value("ferserve_faces_total", LABELS) == 3
    assert value("ferserve_padding_faces_total", LABELS) == 1
    assert value("ferserve_batches_total", LABELS | {"dispatch_reason": "full"}) == 1
    assert value("ferserve_predictions_total", LABELS | {"emotion": "disgust"}) == 2
    assert value("ferserve_predictions_total", LABELS | {"emotion": "happy"}) == 1
    assert value("ferserve_confidence_sum_total", LABELS) == pytest.approx(2.4)
    assert value("ferserve_queue_seconds_sum", {"model": "net"}) == pytest.approx(0.002)


def test_scores_that_are_no_numbers_do_not_spoil_the_confidence(metrics):
    observer_of(metrics).batch_executed(ExecutedBatch(NET, DispatchReason.FULL, 1, 0.0, 0.0, scores([np.nan] * 7)))

    assert not metrics.registry.get_sample_value("ferserve_confidence_sum_total", LABELS)


def test_exactly_one_state_of_a_version_is_set(metrics):
    observer = InferenceMetrics(metrics)
    observer.state_changed(NET, ServableState.LOADING)
    observer.state_changed(NET, ServableState.READY)

    value = metrics.registry.get_sample_value
    states = {
        state.value: value("ferserve_servable_state", LABELS | {"state": state.value}) for state in ServableState
    }
    assert states == {"waiting": 0, "loading": 0, "ready": 1, "draining": 0, "unloaded": 0, "failed": 0}


def test_an_engine_is_asked_at_every_scrape_until_it_is_unloaded(metrics):
    health = [True]
    metrics.watch_engine(NET, depth_faces=lambda: 7, oldest_age_s=lambda: 1.5, healthy=lambda: health[0])
    value = metrics.registry.get_sample_value
    assert value("ferserve_engine_healthy", LABELS) == 1
    health[0] = False
    assert value("ferserve_engine_healthy", LABELS) == 0
    assert value("ferserve_queue_oldest_age_seconds", LABELS) == 1.5
    assert value("ferserve_queue_depth_faces", LABELS) == 7

    InferenceMetrics(metrics).state_changed(NET, ServableState.UNLOADED)

    assert value("ferserve_engine_healthy", LABELS) is None


def test_calls_are_counted_by_method_and_code(metrics):
    observer = CallMetrics(metrics)
    observer.call_started("ClassifyFaces")
    value = metrics.registry.get_sample_value
    assert value("ferserve_requests_in_progress", {"method": "ClassifyFaces"}) == 1
    observer.call_ended("ClassifyFaces", "OK", 0.003)

    assert value("ferserve_requests_in_progress", {"method": "ClassifyFaces"}) == 0
    assert value("ferserve_requests_total", {"method": "ClassifyFaces", "code": "OK"}) == 1


def test_of_many_calls_none_is_missing_whenever_they_are_counted(metrics):
    observer, value = CallMetrics(metrics), metrics.registry.get_sample_value
    for number in range(300):
        observer.call_started("ClassifyFaces")
        observer.stream_answered("ClassifyStream", "result")
        if number % 3:
            observer.call_ended("ClassifyFaces", "OK", 0.003)
        if number == 150:
            assert value("ferserve_requests_in_progress", {"method": "ClassifyFaces"}) == 51

    assert value("ferserve_requests_in_progress", {"method": "ClassifyFaces"}) == 100
    assert value("ferserve_requests_total", {"method": "ClassifyFaces", "code": "OK"}) == 200
    assert value("ferserve_request_seconds_count", {"method": "ClassifyFaces"}) == 200
    assert value("ferserve_request_seconds_sum", {"method": "ClassifyFaces"}) == pytest.approx(0.6)
    assert value("ferserve_stream_answers_total", {"method": "ClassifyStream", "outcome": "result"}) == 300


def test_streams_are_counted_without_a_time(metrics):
    observer, value = CallMetrics(metrics), metrics.registry.get_sample_value
    observer.call_started("ClassifyStream")
    observer.call_ended("ClassifyStream", "CANCELLED", None)

    assert value("ferserve_requests_total", {"method": "ClassifyStream", "code": "CANCELLED"}) == 1
    assert value("ferserve_request_seconds_count", {"method": "ClassifyStream"}) is None


def test_pictures_taken_as_one_face_do_not_count_as_searched(metrics):
    VisionMetrics(metrics).faces_found(FoundFaces(64, 64, (), (), 0, 0.001, 0.0))
    VisionMetrics(metrics).image_failed("IMAGE_UNREADABLE")

    value = metrics.registry.get_sample_value
    assert value("ferserve_detect_seconds_count") == 0
    assert value("ferserve_decode_seconds_count") == 1
    assert value("ferserve_image_failures_total", {"reason": "IMAGE_UNREADABLE"}) == 1


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


def test_an_alias_that_is_removed_is_shown_no_longer(metrics):
    observer = RoutingMetrics(metrics)
    observer.routed("net", {"stable": 1, "canary": 2}, 1)
    observer.routed("net", {"stable": 3}, None)

    value = metrics.registry.get_sample_value
    assert value("ferserve_model_alias", {"model": "net", "alias": "stable"}) == 3
    assert value("ferserve_model_alias", {"model": "net", "alias": "canary"}) is None
    assert value("ferserve_model_serving_version", {"model": "net"}) == 0


def test_a_canary_is_counted_by_version_outcome_and_verdict(metrics):
    observer = CanaryMetrics(metrics)
    observer.canary_share("net", 0.25)
    for outcome in ("answered", "answered", "failed"):
        observer.canary_answered(NET, outcome)
    observer.canary_judged("net", Verdict(CanaryResult.ROLL_BACK, "LATENCY", "slow"))
    observer.shadow_compared(NET, agreed=3, differed=1, dropped=0)
    observer.shadow_figures(NET, ShadowStatistics(4, 3, 0.5, 0.125))
    value = metrics.registry.get_sample_value
    assert value("ferserve_canary_share", {"model": "net"}) == 0.25
    assert value("ferserve_canary_requests_total", LABELS | {"outcome": "answered"}) == 2
    assert value("ferserve_canary_requests_total", LABELS | {"outcome": "failed"}) == 1
    verdict = {"model": "net", "result": "roll_back", "reason": "LATENCY"}
    assert value("ferserve_canary_verdicts_total", verdict) == 1
    assert value("ferserve_canary_shadow_faces_total", LABELS | {"outcome": "agreed"}) == 3
    assert value("ferserve_canary_shadow_difference", LABELS | {"statistic": "largest"}) == 0.5
