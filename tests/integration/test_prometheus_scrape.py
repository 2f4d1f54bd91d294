"""Tests that the real Prometheus scrapes a real server with the project's own configuration.

The server's fixture is `running_server`: `.address` of its gRPC service, `.metrics_url` of its metrics.
"""

import shutil
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as pb2
from ferserve.v1 import face_pb2
from ferserve.v1.emotion_service_pb2_grpc import EmotionServiceStub
from support.monitoring import (
    PROMETHEUS_FOLDER,
    Expression,
    annotation_expressions,
    dashboard_expressions,
    declared_samples,
    recorded_names,
    rule_expressions,
    rules,
)
from support.pictures import ASTRONAUT
from support.prometheus import running_prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(180)]

TARGET = "server:9464"
"""What the configuration scrapes, in the network of docker-compose.yml: the one thing that a test replaces."""

QUIET = (
    *("rejections_total", "cancellations_total", "batch_failures_total", "mix_distance"),
    *("ferserve_model_alias", "ferserve_canary_", "background_failures_total"),
)
"""What has no series while all goes well, on the first day, or without aliases and canaries."""

each_expression = pytest.mark.parametrize(
    "expression",
    [*rule_expressions(), *dashboard_expressions(), *annotation_expressions()],
    ids=lambda each: each.source,
)


@pytest.fixture(scope="module")
def prometheus(running_server, tmp_path_factory):
    """Prometheus with the project's configuration, after it has seen two rounds of every RPC."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(PROMETHEUS_FOLDER / "alerts.yml", folder)
    configuration = (PROMETHEUS_FOLDER / "prometheus.yml").read_text()
    assert configuration.count(TARGET) == 1
    (folder / "prometheus.yml").write_text(
        configuration.replace(TARGET, urlsplit(running_server.metrics_url).netloc)
    )
    with running_prometheus(folder / "prometheus.yml", folder) as prometheus:
        _call_everything(running_server.address)
        prometheus.wait_for('ferserve_requests_total{method="ClassifyStream", code="OK"}')
        _call_everything(running_server.address)
        # Counters appear with their first event, so a rate needs a second one after the first scrape.
        prometheus.wait_for('rate(ferserve_requests_total{method="ClassifyStream", code="OK"}[1m]) > 0')
        yield prometheus


def _call_everything(address: str) -> None:
    """Calls every RPC, with a broken picture among the good ones and one request that is rejected."""
    pixels = np.random.default_rng(7).integers(0, 256, (3, 48, 48), np.uint8)
    packed = face_pb2.PackedFaces(pixels=pixels.tobytes(), face_count=3)
    picture = ASTRONAUT.read_bytes()
    with grpc.insecure_channel(address) as channel:
        stub = EmotionServiceStub(channel)
        assert len(stub.ClassifyFaces(pb2.ClassifyFacesRequest(packed=packed), timeout=30).results) == 3
        analysed = stub.AnalyzeImages(pb2.AnalyzeImagesRequest(images=[picture, picture[:500]]), timeout=30)
        assert [result.WhichOneof("outcome") for result in analysed.results] == ["analysis", "failure"]
        assert len(list(stub.StreamFrames(_frames(picture), timeout=30))) == 3
        messages = (pb2.ClassifyStreamRequest(sequence_id=number, faces=packed) for number in range(3))
        assert len(list(stub.ClassifyStream(messages, timeout=30))) == 3
        with pytest.raises(grpc.RpcError) as rejected:
            stub.ClassifyFaces(pb2.ClassifyFacesRequest(), timeout=30)
        assert rejected.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _frames(picture: bytes):
    yield pb2.StreamFramesRequest(config=pb2.FrameStreamConfig(overload_policy=pb2.OVERLOAD_POLICY_EVERY_FRAME))
    for number in range(3):
        yield pb2.StreamFramesRequest(frame=pb2.Frame(sequence_id=number, image=picture))


def test_the_server_is_up(prometheus):
    (series,) = prometheus.query('up{job="ferserve"}')
    assert series["value"][1] == "1"


def test_the_calls_are_counted_by_method_and_code(prometheus):
    counted = {
        (series["metric"]["method"], series["metric"]["code"]): float(series["value"][1])
        for series in prometheus.query("ferserve_requests_total")
    }
    answered = {(method, "OK") for method in ("ClassifyFaces", "AnalyzeImages", "StreamFrames", "ClassifyStream")}
    assert answered | {("ClassifyFaces", "INVALID_ARGUMENT")} <= counted.keys()
    assert all(counted[call] >= 2 for call in answered)


def test_the_faces_are_counted_as_they_were_sent(prometheus):
    ((_, faces),) = [series["value"] for series in prometheus.query("sum(ferserve_faces_total)")]
    ((_, predictions),) = [series["value"] for series in prometheus.query("sum(ferserve_predictions_total)")]
    # Two rounds of 3 in a call and 3 x 3 on a stream, and what was found in the pictures.
    assert float(faces) >= 24
    assert predictions == faces


@each_expression
def test_every_expression_evaluates(prometheus, expression: Expression):
    prometheus.query(expression.runnable())


@each_expression
def test_every_metric_of_an_expression_is_exported(prometheus, expression: Expression):
    exported = prometheus.get("metadata", {}).keys()
    own = {name for name, _ in expression.selectors()} & declared_samples().keys()
    for name in own:
        # Families carry no suffix; a counter's keeps _total in the older of the two formats.
        families = {name, *(name.removesuffix(end) for end in ("_total", "_bucket", "_count", "_sum"))}
        assert families & exported, name


@pytest.mark.parametrize(
    "expression",
    [each for each in dashboard_expressions() if not any(name in each.text for name in QUIET)],
    ids=lambda each: each.source,
)
def test_every_panel_shows_something(prometheus, expression: Expression):
    assert prometheus.query(expression.runnable())


def test_the_dashboard_offers_the_models_to_choose_from(prometheus):
    assert prometheus.get("label/model/values", {"match[]": "ferserve_servable_state"})


def test_every_rule_was_loaded(prometheus):
    loaded = {rule["name"] for group in prometheus.get("rules", {})["groups"] for rule in group["rules"]}
    assert loaded == {rule["alert"] for rule in rules() if "alert" in rule} | recorded_names()


def test_no_alert_that_wakes_somebody_is_pending(prometheus):
    assert not prometheus.query('ALERTS{severity="critical"}')
