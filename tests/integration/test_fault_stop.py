"""Tests that a stop ends within the drain time and two seconds, whatever runs (faults, item 3)."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2
from support.engine_children import ALLOCATING, HANG, LOOPING, SLEEPING, special_face
from support.fake_models import publish_fake
from support.processes import ENGINE, children, wait_for_end
from support.server_process import ServerProcess, run_fake_server

DRAIN_S = 3
SLACK_S = 2 + 3
"""What a stop may take beyond the drain, and what a test machine with twice as many processes as cores adds."""


def _stop(server: ServerProcess, *, signals: int = 1) -> tuple[int, float]:
    """Stops a server; returns its exit code and the time that it took."""
    pids = children(ENGINE, of=server.process.pid)
    started_at = time.monotonic()
    server.terminate()
    for _ in range(signals - 1):
        server.wait_until(lambda: server._event("draining") is not None, "drains")
        server.terminate()
    code = server.wait(60)
    took_s = time.monotonic() - started_at
    wait_for_end(*pids)
    return code, took_s


@pytest.mark.parametrize("version", [SLEEPING, LOOPING, ALLOCATING], ids=["sleeps", "loops", "allocates"])
def test_a_version_that_is_being_loaded_holds_nothing_up(tmp_path: Path, version: int) -> None:
    publish_fake(tmp_path)
    with run_fake_server(tmp_path, "--drain-timeout-s", "30") as server:
        publish_fake(tmp_path, "fer-slow", version)
        server.wait_until(lambda: len(children(ENGINE, of=server.process.pid)) == 2, "loads the version")
        code, took_s = _stop(server)

        assert code == 0
        assert took_s < 2 + SLACK_S


def test_a_server_without_a_model_that_loads_its_first_one_stops_too(tmp_path: Path) -> None:
    publish_fake(tmp_path, version=SLEEPING)
    with run_fake_server(tmp_path, "--drain-timeout-s", "30", ready=False) as server:
        code, took_s = _stop(server)

        assert code == 0
        assert took_s < 2 + SLACK_S


@pytest.fixture(params=["1", "2"], ids=["one process", "two processes"])
def hanging_call(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A server with a call that is never answered."""
    publish_fake(tmp_path)
    flags = ("--drain-timeout-s", str(DRAIN_S), "--execution-timeout-s", "600", "--processes", request.param)
    with run_fake_server(tmp_path, *flags) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        pixels = special_face(HANG).tobytes()
        packed = face_pb2.PackedFaces(pixels=pixels, face_count=1)
        call = stub.ClassifyFaces.future(emotion_pb2.ClassifyFacesRequest(packed=packed), timeout=120)
        time.sleep(0.5)  # it is on its way; if it is not, the stop is only quicker
        yield server
        call.cancel()


def test_a_call_that_is_never_answered_is_cut_when_the_drain_is_over(hanging_call: ServerProcess) -> None:
    code, took_s = _stop(hanging_call)

    assert code == 1
    assert DRAIN_S <= took_s < DRAIN_S + SLACK_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_it_at_once(hanging_call: ServerProcess, number: int) -> None:
    hanging_call.terminate()
    hanging_call.wait_for_event("draining")
    started_at = time.monotonic()
    pids = children(ENGINE, of=hanging_call.process.pid)
    hanging_call.process.send_signal(number)

    assert hanging_call.wait(30) == 1
    assert time.monotonic() - started_at < DRAIN_S - 1
    wait_for_end(*pids)


def test_a_body_that_does_not_come_holds_nothing_up_and_is_no_loss(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    with run_fake_server(tmp_path, "--drain-timeout-s", "30") as server:
        address = urlsplit(server.http_url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(
                b"POST /v1/analyze HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc"
            )
            time.sleep(0.3)
            started_at = time.monotonic()
            server.terminate()
            connection.settimeout(30)
            answer = connection.recv(65536)

            assert b" 503 " in answer.split(b"\r\n")[0]
            assert b"DRAINING" in answer
            assert server.wait(60) == 0
            assert time.monotonic() - started_at < 2 + SLACK_S


def test_an_engine_ends_with_a_server_that_is_killed_whatever_it_does(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    with run_fake_server(tmp_path) as server:
        publish_fake(tmp_path, "fer-slow", LOOPING)
        server.wait_until(lambda: len(children(ENGINE, of=server.process.pid)) == 2, "loads the version")
        pids = children(ENGINE, of=server.process.pid)
        stopped = next(iter(pids))
        os.kill(stopped, signal.SIGSTOP)  # it runs no code of its own any more
        server.process.kill()
        server.process.wait()
        wait_for_end(*pids)


def test_children_get_no_variable_that_they_do_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 6b: the code of a model could read it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("FERSERVE_LOG_LEVEL", "info")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    publish_fake(tmp_path)
    with run_fake_server(tmp_path) as server:
        (pid,) = children(ENGINE, of=server.process.pid)
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        names = {variable.partition("=")[0] for variable in variables}

    assert "OMP_NUM_THREADS" in names
    assert not names & {"AWS_SECRET_ACCESS_KEY", "FERSERVE_LOG_LEVEL"}


def test_faces_are_still_classified_beside_all_that(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    with run_fake_server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        packed = face_pb2.PackedFaces(pixels=np.zeros((3, 48, 48), np.uint8).tobytes(), face_count=3)
        response = stub.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed), timeout=30)

        assert len(response.results) == 3
        assert _stop(server)[0] == 0
