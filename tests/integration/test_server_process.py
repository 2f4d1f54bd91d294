"""Tests a real process with a real SavedModel: addresses, metrics, reflection, signals."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2, model_service_pb2_grpc
from ferserve.v1 import model_service_pb2 as model_pb2
from support.engine_server import ENGINES
from support.local_server import rejection_of
from support.model_factory import LABELS
from support.pictures import ASTRONAUT
from support.server_process import ServerProcess, run_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FACES = np.random.default_rng(5).integers(0, 256, (5, 48, 48, 1), np.uint8)
REQUEST = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=FACES.tobytes(), face_count=5))


@pytest.fixture
def channel(running_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running_server.address) as channel:
        yield channel


@pytest.fixture(params=["running_server", "thread_server"], ids=["engine process", "engine thread"])
def either_server(request: pytest.FixtureRequest) -> ServerProcess:
    """A server whose model runs in a process of its own, and one that runs it itself."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, ServerProcess)
    return server


@pytest.fixture
def either_channel(either_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(either_server.address) as channel:
        yield channel


def _emotion(channel: grpc.Channel) -> Any:
    return emotion_service_pb2_grpc.EmotionServiceStub(channel)


def _scores(response: emotion_pb2.ClassifyFacesResponse) -> np.ndarray:
    return np.array([result.prediction.scores for result in response.results], np.float32)


def test_the_model_scores_as_it_did_when_it_was_published(
    tiny_model_repo: Path, either_channel: grpc.Channel
) -> None:
    with np.load(tiny_model_repo / "fer-nano/1/assets.extra/golden.npz") as golden:
        faces, expected = golden["faces"], golden["probabilities"]
    packed = face_pb2.PackedFaces(pixels=faces.tobytes(), face_count=len(faces))
    request = emotion_pb2.ClassifyFacesRequest(packed=packed)
    response = _emotion(either_channel).ClassifyFaces(request, timeout=30)
    np.testing.assert_allclose(_scores(response), expected, atol=1e-5)
    assert tuple(response.labels) == LABELS


def test_a_face_scores_the_same_alone_and_in_a_batch(either_channel: grpc.Channel) -> None:
    together = _scores(_emotion(either_channel).ClassifyFaces(REQUEST, timeout=30))
    for row, face in enumerate(FACES):
        packed = face_pb2.PackedFaces(pixels=face.tobytes(), face_count=1)
        request = emotion_pb2.ClassifyFacesRequest(packed=packed)
        alone = _emotion(either_channel).ClassifyFaces(request, timeout=30)
        np.testing.assert_allclose(_scores(alone)[0], together[row], atol=1e-5)


def test_a_picture_goes_through_the_whole_server(channel: grpc.Channel) -> None:
    request = emotion_pb2.AnalyzeImagesRequest(images=[ASTRONAUT.read_bytes(), b"text"])
    found, failed = _emotion(channel).AnalyzeImages(request, timeout=30).results
    assert sum(found.analysis.faces[0].prediction.scores) == pytest.approx(1, abs=1e-4)
    assert failed.failure.reason == "IMAGE_FORMAT_UNSUPPORTED"


def test_the_model_is_described_from_its_manifest(channel: grpc.Channel) -> None:
    stub: Any = model_service_pb2_grpc.ModelServiceStub(channel)
    (version,) = stub.GetModel(model_pb2.GetModelRequest(name="fer-nano"), timeout=30).model.versions
    assert version.parameter_count == 252
    assert list(version.bucket_sizes) == [1, 8, 32]


def test_reflection_lists_the_services_and_describes_them(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "ferserve.v1.EmotionService",
        "ferserve.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("ferserve.v1.EmotionService")
    assert set(service.methods_by_name) == {"ClassifyFaces", "AnalyzeImages", "StreamFrames", "ClassifyStream"}
    # From the server's private pool, with what it imports.
    for name in ("tensorflow.serving.PredictionService", "inference.GRPCInferenceService"):
        assert pool.FindServiceByName(name).methods


def _scrape(server: ServerProcess) -> dict[tuple[str, frozenset], float]:
    with urllib.request.urlopen(server.metrics_url, timeout=30) as page:
        text = page.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_batches_and_faces_are_counted(either_server: ServerProcess, either_channel: grpc.Channel) -> None:
    def value(metrics: dict[tuple[str, frozenset], float], name: str, **labels: str) -> float:
        return metrics.get((f"ferserve_{name}", frozenset(labels.items())), 0.0)

    before = _scrape(either_server)
    for _ in range(3):
        _emotion(either_channel).ClassifyFaces(REQUEST, timeout=30)
    with pytest.raises(grpc.RpcError):
        _emotion(either_channel).ClassifyFaces(emotion_pb2.ClassifyFacesRequest(), timeout=30)
    after = _scrape(either_server)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    version = {"model": "fer-nano", "version": "1"}
    assert grown("requests_total", method="ClassifyFaces", code="OK") == 3
    assert grown("requests_total", method="ClassifyFaces", code="INVALID_ARGUMENT") == 1
    assert grown("request_seconds_count", method="ClassifyFaces") == 4
    assert grown("faces_total", **version) == 15
    assert grown("padding_faces_total", **version) == 9
    assert sum(grown("predictions_total", **version, emotion=label) for label in LABELS) == 15
    assert value(after, "requests_in_progress", method="ClassifyFaces") == 0
    assert value(after, "servable_state", **version, state="ready") == 1
    assert value(after, "engine_healthy", **version) == 1
    assert value(after, "queue_depth_faces", **version) == 0


def test_the_health_check_command_tells_by_its_exit_code(running_server: ServerProcess) -> None:
    command = [sys.executable, "-m", "ferserve_server.app.healthcheck"]
    assert subprocess.run([*command, running_server.address], check=False, timeout=60).returncode == 0
    assert subprocess.run([*command, "127.0.0.1:1"], check=False, timeout=60).returncode == 1


@pytest.mark.parametrize(
    ("flag", "address"),
    [
        ("--listen", "grpc"),
        ("--metrics-listen", "metrics"),
        ("--http-listen", "http"),
        ("--listen", "nonsense"),
        ("--http-listen", "nonsense"),
    ],
)
def test_an_address_that_cannot_be_used_is_reported_in_one_line(
    running_server: ServerProcess, tmp_path: Path, flag: str, address: str
) -> None:
    taken = {
        "grpc": running_server.address,
        "http": running_server.http_url.removeprefix("http://"),
        "metrics": running_server.metrics_url.removeprefix("http://").removesuffix("/metrics"),
        "nonsense": "nonsense",
    }[address]
    others = {"--listen": "127.0.0.1:0", "--http-listen": "off", "--metrics-listen": "off"} | {flag: taken}
    flags = [part for pair in others.items() for part in pair]
    run = subprocess.run(
        [sys.executable, "-m", "ferserve_server", "--model-repo", str(tmp_path), *flags],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    # The engine process, which starts meanwhile, may have got so far that TensorFlow greets.
    (line,) = (each for each in run.stderr.splitlines() if "absl" not in each and "oneDNN" not in each)
    assert line.startswith("ferserve-server: cannot ")
    assert taken in line
    assert flag in line


def test_bad_settings_are_reported_by_line_and_exit_code() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ferserve_server", "--max-queue-mib", "0", "--min-neighbors", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    first, second = run.stderr.splitlines()
    assert first.startswith("ferserve-server: max_queue_mib: ")
    assert second.startswith("ferserve-server: min_neighbors: ")


def test_a_system_that_starts_no_engine_process_is_reported_in_one_line(tmp_path: Path) -> None:
    program = (
        "import sys; sys.executable = '/nowhere/python';"
        "from ferserve_server.cli import main; sys.argv[1:] = ['--model-repo', sys.argv[1]]; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 71
    (line,) = run.stderr.splitlines()
    assert line.startswith("ferserve-server: no engine process can be started: ")
    assert "/nowhere/python" in line


class Load:
    """Clients on threads that call until the server rejects, and what became of every call."""

    def __init__(self, address: str, client_count: int) -> None:
        self._address = address
        self._began = Event()
        self.answered = 0
        self._pool = ThreadPoolExecutor(client_count)
        self._clients = [self._pool.submit(self._call_until_rejected) for _ in range(client_count)]

    def _call_until_rejected(self) -> grpc.RpcError:
        with grpc.insecure_channel(self._address) as channel:
            stub = _emotion(channel)
            while True:
                try:
                    response = stub.ClassifyFaces(REQUEST, timeout=30)
                except grpc.RpcError as error:
                    return error
                assert len(response.results) == 5
                self.answered += 1
                self._began.set()

    def wait_until_it_runs(self) -> None:
        assert self._began.wait(30)

    def rejections(self) -> list[grpc.RpcError]:
        """The error that each client ended with."""
        errors = [client.result(timeout=60) for client in self._clients]
        self._pool.shutdown()
        return errors


@pytest.mark.parametrize("engine", ENGINES)
def test_sigterm_under_load_loses_no_call_that_was_taken_and_exits_with_0(
    tiny_model_repo: Path, engine: str
) -> None:
    with run_server(tiny_model_repo, "--lame-duck-s", "0.3", "--engine", engine) as server:
        load = Load(server.address, 4)
        with grpc.insecure_channel(server.address) as channel:
            load.wait_until_it_runs()
            stream = _emotion(channel).ClassifyStream(
                iter_then_wait([emotion_pb2.ClassifyStreamRequest(sequence_id=7, faces=REQUEST.packed)])
            )
            assert next(stream).sequence_id == 7
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            server.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            ended = rejection_of(caught.value)
            assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert ended.metadata["last_sequence_id"] == "7"
        rejections = [rejection_of(error) for error in load.rejections()]
        assert {rejection.code for rejection in rejections} == {grpc.StatusCode.UNAVAILABLE}
        assert all("failed to connect" in rejection.message for rejection in rejections), rejections
        assert load.answered > 0
        assert server.wait() == 0
        assert server.wait_for_event("drained")


def iter_then_wait(messages: list) -> Iterator[Any]:
    """Sends messages and leaves the stream open."""
    yield from messages
    Event().wait(60)


def test_precision_and_batch_times_are_reported_and_kept_for_the_next_start(
    tiny_model_repo: Path, tmp_path: Path
) -> None:
    """Measured at the first start, read at the second: whatever was chosen is chosen again."""
    reported = []
    cache = tmp_path / "tune.json"
    for _ in range(2):
        flags = ("--precision", "auto", "--tune", "auto", "--tune-cache", str(cache))
        with run_server(tiny_model_repo, *flags) as server, grpc.insecure_channel(server.address) as channel:
            stub: Any = model_service_pb2_grpc.ModelServiceStub(channel)
            (version,) = stub.GetModel(model_pb2.GetModelRequest(), timeout=30).model.versions
            reported.append((version, cache.read_bytes(), _scrape(server)))
    (first, first_file, metrics), (second, second_file, _) = reported
    assert set(first.latency_ms) == {1, 8, 32}
    assert first.bucket_sizes[0] == 1
    assert (first.precision, dict(first.latency_ms), list(first.bucket_sizes)) == (
        second.precision,
        dict(second.latency_ms),
        list(second.bucket_sizes),
    )
    assert first.bfloat16_speedup == second.bfloat16_speedup
    assert first_file == second_file
    name = model_pb2.Precision.Name(first.precision).removeprefix("PRECISION_").lower()
    labels = frozenset({"model": "fer-nano", "version": "1", "precision": name}.items())
    assert metrics["ferserve_servable_precision", labels] == 1
