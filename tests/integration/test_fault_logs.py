"""Tests broken log sinks: a reader of the log cannot stop the service (faults, item 1)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2
from support.log_sinks import SINKS, server_with_sink
from support.model_factory import publish_model
from support.processes import ENGINE, children
from support.server_process import ServerProcess, run_server

if TYPE_CHECKING:
    from pathlib import Path

PACKED = face_pb2.PackedFaces(pixels=np.zeros((1, 48, 48, 1), np.uint8).tobytes(), face_count=1)
REQUEST = emotion_pb2.ClassifyFacesRequest(packed=PACKED)

_SMALL_JPEG = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8))[1].tobytes()
DAMAGED_JPEG = _SMALL_JPEG[:-900] + b"\xff\xd9"
"""libjpeg decodes it, and writes a line to stderr that it is corrupt."""


def _version_in_service(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        try:
            version: int = stub.ClassifyFaces(REQUEST, timeout=5).servable.version
        except grpc.RpcError:
            return 0
        return version


@pytest.mark.parametrize("sink", SINKS)
def test_the_service_starts_recovers_reloads_and_drains_whatever_becomes_of_its_log(
    tiny_model_repo: Path, tmp_path: Path, sink: str
) -> None:
    repository = shutil.copytree(tiny_model_repo, tmp_path / "models")
    with server_with_sink(sink, repository, "--log-level", "debug") as server:
        server.wait_ready()
        (engine,) = children(ENGINE, of=server.process.pid)
        os.kill(engine, signal.SIGKILL)
        server.wait_until(lambda: _version_in_service(server.address) == 1, "has another engine")
        assert engine not in children(ENGINE, of=server.process.pid)
        publish_model(repository, version=2)
        server.wait_until(lambda: _version_in_service(server.address) == 2, "serves the new version")
        with urllib.request.urlopen(server.metrics_url, timeout=10) as page:
            lines = page.read().decode().splitlines()
        (dropped,) = (line for line in lines if line.startswith("ferserve_log_lines_dropped_total "))
        if sink in SINKS[1:3]:  # nothing could be written; behind a stalled reader the queue is not full yet
            assert float(dropped.split()[1]) > 0

        started_at = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_at < 20


def _metric(server: ServerProcess, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as page:
        for line in page.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise AssertionError(name)


def test_lines_of_native_libraries_become_log_records_within_a_rate_limit(tiny_model_repo: Path) -> None:
    with run_server(tiny_model_repo) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        request = emotion_pb2.AnalyzeImagesRequest(images=[DAMAGED_JPEG] * 32)
        for _ in range(40):
            assert len(stub.AnalyzeImages(request, timeout=60).results) == 32

        # TensorFlow's own lines may come first: which there are depends on the processor.
        server.wait_until(
            lambda: any("Corrupt JPEG data" in line for line in list(server.log)), "logs libjpeg's line"
        )
        lines = [line for line in list(server.log) if "Corrupt JPEG data" in line]
        records = [json.loads(line) for line in lines]
        assert {(each["event"], each["level"]) for each in records} == {("line on stderr", "warning")}
        assert len(lines) < 400  # of 1,280
        server.wait_until(
            lambda: _metric(server, "ferserve_log_lines_dropped_total") > 500, "counts dropped lines"
        )
        assert server.wait_for_event("log lines dropped")["lines"] > 0
        server.terminate()
        assert server.wait() == 0


def test_the_records_of_an_engine_process_arrive_as_it_wrote_them(running_server: ServerProcess) -> None:
    loaded = running_server.wait_for_event("model loaded")

    assert loaded["servable"] == "fer-nano/1"
    assert loaded["level"] == "info"
