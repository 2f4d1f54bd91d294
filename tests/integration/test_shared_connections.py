"""Tests that the primary process takes calls, and passes connections to others. Real processes and gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve.v1 import servable_pb2
from ferserve_server.app.overrides import Overrides
from ferserve_server.app.primary_main import running_server
from ferserve_server.backends.fake import FakeLoader
from ferserve_server.config.settings import Settings
from ferserve_server.workers.process import HEARTBEAT_INTERVAL_S, MAX_MISSED_BEATS
from support.certificates import make_certificates
from support.compat import ask, crops, infer_request, oip
from support.fake_models import publish_fake
from support.loaders import KeptLoader
from support.local_server import (
    DEADLINE_S,
    NOT_SERVING,
    LocalServer,
    Stubs,
    classes_of,
    eventually,
    packed,
)
from support.processes import served_connections
from support.worker_server import callers, metric, worker_server, workers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANG_S = HEARTBEAT_INTERVAL_S * (MAX_MISSED_BEATS + 2)

HALF: dict[str, Any] = {"processes": 2, "primary_share": 0.5}
"""The primary gets the first connection, that of the server's own stubs; the worker the next, and so on."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


def _faces(*classes: int) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))


def _served(server: LocalServer) -> list[int]:
    """How many connections each process serves, the primary process first."""
    pids = [os.getpid(), *workers_of(server).pids]
    return [len(served_connections(pid, server.running.port or 0)) for pid in pids]


async def _serve(server: LocalServer, expected: list[int]) -> None:
    """Waits until the processes serve so many connections, and the copies of passed ones are closed."""

    async def they_do() -> bool:
        return _served(server) == expected

    await eventually(they_do)


def _fd_counts(server: LocalServer) -> list[int]:
    return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), *workers_of(server).pids)]


@contextlib.asynccontextmanager
async def _at_primary_and_worker(models: Path, **more: object) -> AsyncIterator[tuple[LocalServer, Stubs, Stubs]]:
    """A server of two processes, a caller at its primary process, and one at its worker process."""
    async with worker_server(models, **(HALF | more)) as server, callers(server, 1) as (there,):
        await _serve(server, [1, 1])
        yield server, server, there


@pytest.mark.parametrize(
    ("processes", "share", "expected"),
    [(2, 0.875, [8, 1]), (2, 0.5, [5, 4]), (2, 1.0, [9, 0]), (3, 0.125, [2, 4, 3]), (3, 0.0, [0, 5, 4])],
)
async def test_nine_connections_are_spread_by_count(
    models: Path, processes: int, share: float, expected: list[int]
) -> None:
    async with (
        worker_server(models, processes=processes, primary_share=share) as server,
        callers(server, 8) as stubs,
    ):
        await _serve(server, expected)
        for row, each in enumerate(stubs):
            assert classes_of(await each.emotion.ClassifyFaces(_faces(row % 7), timeout=60)) == [row % 7]


async def test_places_of_connections_that_ended_are_given_to_the_next(models: Path) -> None:
    async with worker_server(models, **HALF) as server:
        for _ in range(3):
            async with callers(server, 3):
                await _serve(server, [2, 2])

            async def gone() -> bool:
                return _served(server) == [1, 0] and workers_of(server).accepting_workers[0].connection_count == 0

            await eventually(gone)


async def test_two_hundred_short_connections_leave_no_file_descriptor_behind(models: Path) -> None:
    async with worker_server(models, **HALF) as server:

        async def call() -> None:
            async with callers(server, 1) as (stubs,):
                assert classes_of(await stubs.emotion.ClassifyFaces(_faces(3), timeout=60)) == [3]

        await asyncio.gather(*(call() for _ in range(4)))
        await asyncio.sleep(0.5)
        before = _fd_counts(server)
        for _ in range(50):
            await asyncio.gather(*(call() for _ in range(4)))

        async def as_before() -> bool:
            return all(now <= then for now, then in zip(_fd_counts(server), before, strict=True))

        await eventually(as_before)


async def test_what_is_no_call_is_let_go_by_whoever_gets_it(models: Path, tmp_path: Path) -> None:
    """Such as the knocks of a load balancer, with and without TLS."""
    tls = _tls(tmp_path)
    for settings in ({}, tls):
        async with worker_server(models, **(HALF | settings), ready=False) as server:
            for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01nonsense") * 4:
                with socket.create_connection(("127.0.0.1", server.running.port or 0), timeout=5) as knock:
                    knock.sendall(data)

            async def nobody_left() -> bool:
                return sum(_served(server)) <= 1 and workers_of(server).accepting_workers[0].connection_count == 0

            await server.channel.close()
            await eventually(nobody_left)


def _tls(folder: Path) -> dict[str, Any]:
    if not (folder / "server.pem").exists():
        make_certificates(folder)
    return {"tls_cert_file": folder / "server.pem", "tls_key_file": folder / "server.key"}


async def test_tls_begins_in_the_process_that_serves_the_connection(models: Path, tmp_path: Path) -> None:
    settings = _tls(tmp_path)
    trusted = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        worker_server(models, **(HALF | settings), ready=False) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        address = f"localhost:{server.running.port}"
        await server.channel.close()
        for row in range(4):
            channel = grpc.aio.secure_channel(address, trusted, options)
            stubs = Stubs(await stack.enter_async_context(channel))
            await stubs.wait_for()
            assert classes_of(await stubs.emotion.ClassifyFaces(_faces(row), timeout=60)) == [row]
        await _serve(server, [2, 2])


async def test_several_processes_answer_on_a_file(models: Path, tmp_path: Path) -> None:
    place = tmp_path / "ferserve.sock"
    fixed = {"http_listen": "off", "metrics_listen": "off", "default_model": "fer-nano", "vision_threads": 1}
    settings = Settings.of(
        model_repo=models, listen=f"unix:{place}", precision="float32", tune="fixed", processes=2, **fixed
    )
    half = Overrides(primary_share=0.5)
    async with running_server(settings, FakeLoader(), half) as running, contextlib.AsyncExitStack() as stack:
        assert running.port is None
        assert running.workers is not None
        (front,) = running.workers.accepting_workers
        for row in range(4):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{place}", options))
            stubs = Stubs(channel)
            await stubs.wait_for()
            assert classes_of(await stubs.emotion.ClassifyFaces(_faces(row), timeout=60)) == [row]
            assert front.connection_count == (row + 1) // 2
    assert not place.exists()


async def test_grpcs_server_listens_in_worker_processes_and_the_primary_takes_nothing(models: Path) -> None:
    settings = {"grpc_server": "grpcio", "processes": 2, "primary_share": 1.0}
    async with worker_server(models, **settings) as server, callers(server, 6) as stubs:
        assert len(workers_of(server).pids) == 2
        for row, each in enumerate(stubs):
            assert classes_of(await each.emotion.ClassifyFaces(_faces(row), timeout=60)) == [row]
        own, *others = _served(server)
        assert (own, sum(others)) == (0, 7)


async def test_whoever_is_at_the_primary_notices_nothing_of_a_killed_worker_process(models: Path) -> None:
    async with _at_primary_and_worker(models) as (server, here, there):
        workers = workers_of(server)
        (victim,) = workers.pids
        os.kill(victim, signal.SIGKILL)

        async def lost() -> bool:
            try:
                await there.emotion.ClassifyFaces(_faces(1), timeout=1)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        async def replaced() -> bool:
            assert classes_of(await here.emotion.ClassifyFaces(_faces(2), timeout=60)) == [2]
            return workers.running_count == 1 and victim not in workers.pids

        await asyncio.gather(eventually(lost), eventually(replaced, 2 * DEADLINE_S))
        await there.wait_for()  # at the primary process, where it went at once, or at the next worker process
        async with callers(server, 4) as replacements:
            for each in replacements:
                assert classes_of(await each.emotion.ClassifyFaces(_faces(3), timeout=60)) == [3]

            async def level() -> bool:
                own, others = _served(server)
                return own + others == 6 and others >= 2

            await eventually(level)


async def test_connections_that_a_stopped_worker_process_does_not_take_are_served_by_others(models: Path) -> None:
    async with _at_primary_and_worker(models) as (server, here, _):
        (stopped,) = workers_of(server).pids
        os.kill(stopped, signal.SIGSTOP)
        async with contextlib.AsyncExitStack() as stack:
            options: list[tuple[str, Any]] = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
                ("grpc.max_reconnect_backoff_ms", 60_000),
                ("grpc.initial_reconnect_backoff_ms", 60_000),
                (
                    "grpc.min_reconnect_backoff_ms",
                    60_000,
                ),  # the wait for an answer, too: it is the first connection
            ]
            made = [grpc.aio.insecure_channel(server.address, options) for _ in range(6)]
            stubs = [Stubs(await stack.enter_async_context(channel)) for channel in made]
            calls = [each.emotion.ClassifyFaces(_faces(row), timeout=60) for row, each in enumerate(stubs)]
            assert classes_of(await here.emotion.ClassifyFaces(_faces(5), timeout=60)) == [5]
            async with asyncio.timeout(HANG_S + 2 * DEADLINE_S):
                assert [classes_of(answer) for answer in await asyncio.gather(*calls)] == [
                    [row] for row in range(6)
                ]
            assert stopped not in workers_of(server).pids


async def test_a_drain_answers_what_the_primary_and_its_worker_process_have_taken(models: Path) -> None:
    loader = KeptLoader()
    unblocked = threading.Event()
    settings = {"metrics_listen": "127.0.0.1:0"}
    async with worker_server(models, loader, **(HALF | settings)) as server, callers(server, 3) as stubs:
        loader.before_predict = lambda _: unblocked.wait(60)
        everybody = [server, *stubs]
        calls = [asyncio.ensure_future(each.emotion.ClassifyFaces(_faces(4), timeout=60)) for each in everybody]

        async def all_there() -> bool:
            return await metric(server, "requests_in_progress", method="ClassifyFaces") == 4

        await eventually(all_there)
        assert workers_of(server).face_count == 2
        draining = server.running.drain()
        for each in everybody:
            await each.wait_until_gone()
        assert not draining.done()
        unblocked.set()
        assert [classes_of(answer) for answer in await asyncio.gather(*calls)] == [[4]] * 4
        assert await draining


@contextlib.asynccontextmanager
async def callers_that_come_late(server: LocalServer) -> AsyncIterator[list[Stubs]]:
    """Stubs on connections of their own, whatever health says."""
    async with contextlib.AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        made = [grpc.aio.insecure_channel(server.address, options) for _ in range(2)]
        yield [Stubs(await stack.enter_async_context(channel)) for channel in made]


async def test_health_is_that_of_the_service_in_a_lame_duck_and_connections_are_still_placed(models: Path) -> None:
    async with _at_primary_and_worker(models, lame_duck_s=3.0) as (server, here, there):
        draining = server.running.drain()
        for each in (here, there):
            await each.wait_for(NOT_SERVING)
        async with callers_that_come_late(server) as late:
            for each in (here, there, *late):
                assert classes_of(await each.emotion.ClassifyFaces(_faces(6), timeout=60)) == [6]
            await _serve(server, [2, 2])
        assert await draining


async def test_a_control_call_at_either_is_active_at_both_when_it_is_answered(tmp_path: Path) -> None:
    for version in (1, 2):
        publish_fake(tmp_path, version=version)
    settings = {"versions_per_model": 2, "control_on_main": True, "repository_poll_s": 0}
    async with _at_primary_and_worker(tmp_path, **settings) as (_, here, there):
        spec = servable_pb2.ModelSpec(version_label="beta")
        asked = emotion_pb2.ClassifyFacesRequest(packed=packed(1), model=spec)
        for version, (caller, other) in enumerate([(here, there), (there, here)] * 4):
            request = model_pb2.SetAliasRequest(name="fer-nano", alias="beta", version=version % 2 + 1)
            changed = await caller.models.SetAlias(request)
            assert (await other.emotion.ClassifyFaces(asked)).servable.version == version % 2 + 1
            assert (await other.models.GetModel(model_pb2.GetModelRequest())).model == changed.model


async def test_counts_are_those_of_the_primary_and_its_worker_process_together(models: Path) -> None:
    async with _at_primary_and_worker(models, metrics_listen="127.0.0.1:0") as (server, here, there):
        for caller in (here, there, there):
            await caller.emotion.ClassifyFaces(_faces(1), timeout=60)
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.emotion.ClassifyFaces(_faces(), timeout=60)
            await ask(caller.channel, "ModelInfer", infer_request(crops(1, 2), model_name="fer-nano"))

        async def all_counted() -> bool:
            codes = ("OK", "INVALID_ARGUMENT")
            found = [await metric(server, "requests_total", method="ClassifyFaces", code=code) for code in codes]
            statistics = []
            for caller in (here, there):
                request = oip("ModelStatisticsRequest", name="fer-nano", version="1")
                (stats,) = (await ask(caller.channel, "ModelStatistics", request)).model_stats
                statistics.append((stats.inference_stats.success.count, stats.inference_count))
            return found == [3, 3] and statistics == [(3, 9), (3, 9)]

        await eventually(all_counted)
        assert await metric(server, "worker_processes") == 1
        assert await metric(server, "requests_in_progress", method="ClassifyFaces") == 0
