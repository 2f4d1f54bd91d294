"""Tests a server as a user starts it, its model in an engine process with TensorFlow, when that process fails."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2
from support.local_server import rejection_of
from support.processes import ENGINE, children, named_shared_memory, runs, wait_for_end
from support.server_process import ServerProcess, run_server

if TYPE_CHECKING:
    from pathlib import Path

FACES = np.random.default_rng(5).integers(0, 256, (5, 48, 48, 1), np.uint8)
REQUEST = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=FACES.tobytes(), face_count=5))


def _call(server: ServerProcess) -> np.ndarray:
    with grpc.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel:
        answer = emotion_service_pb2_grpc.EmotionServiceStub(channel).ClassifyFaces(REQUEST, timeout=60)
    return np.array([result.prediction.scores for result in answer.results])


@pytest.mark.parametrize(
    "flags", [(), ("--processes", "2", "--grpc-server", "grpcio")], ids=["one process", "a worker process"]
)
def test_an_engine_that_is_killed_comes_back_and_scores_as_before(
    tiny_model_repo: Path, flags: tuple[str, ...]
) -> None:
    with run_server(tiny_model_repo, *flags) as server:
        before = _call(server)
        (engine,) = children(ENGINE, of=server.process.pid)
        os.kill(engine, signal.SIGKILL)
        rejections = []

        def answered() -> bool:
            try:
                return np.allclose(_call(server), before, atol=1e-5)
            except grpc.RpcError as error:
                rejections.append(rejection_of(error))
                return False

        server.wait_until(answered, "answers again")
        assert {rejection.reason for rejection in rejections} <= {"ENGINE_LOST"}
        (reported,) = [line for line in server.log if '"engine lost"' in line]
        assert "SIGKILL" in reported
        (engine,) = children(ENGINE, of=server.process.pid)
        os.killpg(engine, signal.SIGINT)
        assert np.allclose(_call(server), before, atol=1e-5)  # an interrupt is not for the engine

        left = children(of=server.process.pid)
        assert not [line for pid in left for line in named_shared_memory(pid)]
        server.process.kill()  # and now the server: nothing of it stays behind
        server.process.wait()
        wait_for_end(*left)


def test_with_engine_thread_the_server_is_one_process(tiny_model_repo: Path) -> None:
    with run_server(tiny_model_repo, "--engine", "thread") as server:
        assert len(_call(server)) == 5
        assert children(of=server.process.pid) == {}
        server.terminate()
        assert server.wait() == 0


def test_stop_signals_to_every_process_drain_in_good_order(tiny_model_repo: Path) -> None:
    """Supervisors such as systemd send SIGTERM to all processes of a service at once."""
    with run_server(tiny_model_repo, "--lame-duck-s", "1") as server:
        (engine,) = children(ENGINE, of=server.process.pid)
        os.kill(engine, signal.SIGTERM)
        server.terminate()
        assert len(_call(server)) == 5  # lame duck: NOT_SERVING, and yet it answers
        assert server.wait() == 0
        assert not runs(engine)
