"""Tests a detection tier before real servers with real SavedModels: processes as a user starts them."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2
from support.local_server import rejection_of
from support.server_process import ServerProcess, run_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(400)  # three processes start, two of which import TensorFlow

WITHOUT_TENSORFLOW = str(Path(__file__).parents[1] / "support" / "without_tensorflow")
FACES = np.random.default_rng(5).integers(0, 256, (128, 48, 48, 1), np.uint8)
REQUEST = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=FACES.tobytes(), face_count=128))
"""As many bytes as gRPC would not send again by its own defaults."""


@pytest.fixture
def tier(tiny_model_repo: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers with models. Tests may kill them."""
    with run_server(tiny_model_repo) as one, run_server(tiny_model_repo) as other:
        yield one, other


def _detection_tier(*upstreams: ServerProcess) -> ServerProcess:
    path = os.pathsep.join([WITHOUT_TENSORFLOW, os.environ.get("PYTHONPATH", "")])
    flags = ["--upstream", ",".join(each.address for each in upstreams), "--upstream-refresh-s", "0.1"]
    return ServerProcess(flags, {"PYTHONPATH": path})


def _classify(address: str) -> emotion_pb2.ClassifyFacesResponse:
    options: list[tuple[str, Any]] = [("grpc.enable_retries", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        return stub.ClassifyFaces(REQUEST, timeout=60)


def _answered_count(server: ServerProcess) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=30) as page:
        families = text_string_to_metric_families(page.read().decode())
    wanted = {"method": "ClassifyFaces", "code": "OK"}
    return sum(sample.value for family in families for sample in family.samples if sample.labels == wanted)


def _scores(response: emotion_pb2.ClassifyFacesResponse) -> np.ndarray:
    return np.array([result.prediction.scores for result in response.results], np.float32)


def test_no_call_fails_when_a_server_of_the_tier_hangs_or_is_killed(
    tier: tuple[ServerProcess, ServerProcess],
) -> None:
    one, other = tier
    with _detection_tier(one, other) as server:
        expected = _classify(one.address)
        assert list(_classify(server.address).results) == list(expected.results)
        stop = threading.Event()

        def call_on() -> int:
            count = 0
            while not stop.is_set():
                # Other batches than before: a probability may differ in its last bit.
                np.testing.assert_allclose(_scores(_classify(server.address)), _scores(expected), atol=1e-5)
                count += 1
            return count

        with ThreadPoolExecutor(8) as pool:
            other.process.send_signal(signal.SIGSTOP)  # it takes calls in, and answers none
            try:
                answers = list(pool.map(_classify, [server.address] * 16))
            finally:
                other.process.send_signal(signal.SIGCONT)
            assert len(answers) == 16
            before = _answered_count(other)
            other.wait_until(
                lambda: bool(_classify(server.address)) and _answered_count(other) > before, "is back"
            )

            callers = [pool.submit(call_on) for _ in range(4)]
            try:
                _classify(server.address)
                other.process.send_signal(signal.SIGKILL)
                other.process.wait()
                for _ in range(20):
                    _classify(server.address)
            finally:
                stop.set()
            assert min(caller.result() for caller in callers) > 0
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
        server.wait_for_event("model tier lost: no server of it can be reached, or none is ready")
        with pytest.raises(grpc.RpcError) as caught:
            _classify(server.address)
        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE")
        server.terminate()
        assert server.wait() == 0
