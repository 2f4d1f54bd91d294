"""Tests the balancing of work over the servers of a model tier. Real servers and gRPC, fake models."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from support.fake_models import publish_fake
from support.local_server import (
    SERVING,
    LocalServer,
    classes_of,
    eventually,
    local_server,
    packed,
    rejection_of,
)
from support.tiers import detection_tier
from support.worker_server import metric

if TYPE_CHECKING:
    from pathlib import Path

METRICS = {"metrics_listen": "127.0.0.1:0"}
TIMEOUT_S = 30
FACES = emotion_pb2.ClassifyFacesRequest(packed=packed(2, 4))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


async def _answered(server: LocalServer) -> float:
    return await metric(server, "requests_total", method="ClassifyFaces", code="OK")


async def test_servers_get_work_round_robin(models: Path) -> None:
    async with (
        local_server(models, **METRICS) as one,
        local_server(models, **METRICS) as other,
        detection_tier(one.address, other.address) as server,
    ):

        async def both_have_answered() -> bool:
            await server.emotion.ClassifyFaces(FACES)
            return min(await _answered(one), await _answered(other)) >= 5

        await eventually(both_have_answered)


async def test_a_server_whose_model_is_not_ready_gets_none(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with (
        local_server(models, **METRICS) as one,
        local_server(tmp_path / "empty", ready=False, **METRICS) as other,
        detection_tier(other.address, one.address, upstream_attempts=1) as server,
    ):
        for _ in range(10):
            assert classes_of(await server.emotion.ClassifyFaces(FACES, timeout=TIMEOUT_S)) == [2, 4]
        assert await metric(other, "requests_total", method="ClassifyFaces", code="UNAVAILABLE") == 0
        publish_fake(tmp_path / "empty")

        async def gets_some() -> bool:
            await server.emotion.ClassifyFaces(FACES)
            return await _answered(other) > 0

        await eventually(gets_some)


async def test_a_server_that_drains_is_left_and_no_call_fails(models: Path) -> None:
    async with (
        local_server(models) as one,
        local_server(models, lame_duck_s=0.3) as other,
        detection_tier(one.address, other.address) as server,
    ):
        stopped = asyncio.Event()

        async def call_on() -> int:
            count = 0
            while not stopped.is_set():
                assert classes_of(await server.emotion.ClassifyFaces(FACES, timeout=TIMEOUT_S)) == [2, 4]
                count += 1
            return count

        callers = [asyncio.create_task(call_on()) for _ in range(4)]
        assert await other.running.drain()
        stopped.set()
        assert min(await asyncio.gather(*callers)) > 0
        assert await server.state() == SERVING


async def test_connections_of_some_age_are_made_again_and_nothing_fails(models: Path) -> None:
    """As they must be for servers that are added to be found: gRPC asks DNS when a connection ends."""
    async with local_server(models, max_connection_age_s=0.3) as tier, detection_tier(tier.address) as server:
        tier.channel.get_state(try_to_connect=True)
        stream = tier.emotion.ClassifyStream(timeout=TIMEOUT_S)
        for number in range(2):
            await stream.write(emotion_pb2.ClassifyStreamRequest(sequence_id=number, faces=packed(3)))
            assert (await stream.read()).sequence_id == number

            async def has_ended() -> bool:
                assert classes_of(await server.emotion.ClassifyFaces(FACES, timeout=TIMEOUT_S)) == [2, 4]
                return tier.channel.get_state() is not grpc.ChannelConnectivity.READY

            await eventually(has_ended)  # the stream goes on, on the old connection
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await server.state() == SERVING


async def test_a_tier_is_found_by_its_name(models: Path) -> None:
    async with (
        local_server(models) as tier,
        detection_tier(tier.address.replace("127.0.0.1", "localhost")) as server,
    ):
        assert classes_of(await server.emotion.ClassifyFaces(FACES, timeout=TIMEOUT_S)) == [2, 4]


async def test_servers_with_different_versions_never_answer_one_call_together(
    models: Path, tmp_path: Path
) -> None:
    """A request of two batches gets one from each: it is rejected, or scored whole by one version."""
    publish_fake(tmp_path / "newer", version=2)
    async with (
        local_server(models) as one,
        local_server(tmp_path / "newer") as other,
        detection_tier(one.address, other.address, upstream_batch_faces=1) as server,
    ):
        seen = set()
        for _ in range(20):
            try:
                answer = await server.emotion.ClassifyFaces(FACES, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                rejection = rejection_of(error)
                assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "VERSION_CHANGED")
            else:
                assert classes_of(answer) == [2, 4]
                seen.add(answer.servable.version)
        assert seen <= {1, 2}


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--upstream", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--upstream", "models:1", "--processes", "2"], "processes must be 1 with upstream"),
        (["--upstream", "models:1", "--alias", "x:stable=1"], "give alias to the servers of the tier instead"),
        (["--upstream", "models:1", "--upstream-ca-file", "nowhere.pem"], "nowhere.pem cannot be read"),
    ],
)
def test_a_server_that_cannot_start_so_says_why(flags: list[str], fault: str, tmp_path: Path) -> None:
    quiet = ["--listen", "127.0.0.1:0", "--http-listen", "off", "--metrics-listen", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "ferserve_server", *quiet, *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Traceback" not in done.stderr
