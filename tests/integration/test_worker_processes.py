"""Tests starts and exits of worker processes, and the cleanup of unfinished work. Real processes, real gRPC."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc
from ferserve_server.runtime.addresses import ListenError
from ferserve_server.workers.process import HEARTBEAT_INTERVAL_S, MAX_MISSED_BEATS
from support.engine_server import fake_engines
from support.fake_models import publish_fake
from support.loaders import KeptLoader
from support.local_server import (
    DEADLINE_S,
    LocalServer,
    Rejection,
    Stubs,
    classes_of,
    eventually,
    packed,
    rejection_of,
)
from support.processes import ENGINE, FRONT, children, named_shared_memory, runs, wait_for_end
from support.server_process import ServerProcess, run_server
from support.worker_server import CALLER_COUNT, callers, callers_by_process, metric, worker_server, workers_of

if TYPE_CHECKING:
    from pathlib import Path


HANG_S = HEARTBEAT_INTERVAL_S * (MAX_MISSED_BEATS + 2)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    publish_fake(repository)
    return repository


def _faces(*classes: int) -> emotion_pb2.ClassifyFacesRequest:
    return emotion_pb2.ClassifyFacesRequest(packed=packed(*classes))


async def test_faces_of_callers_on_different_processes_share_a_batch(models: Path) -> None:
    loader = KeptLoader()
    chosen: dict[str, Any] = {"hold_until_queued": CALLER_COUNT, "bucket_sizes": (1, CALLER_COUNT)}
    async with worker_server(models, loader, **chosen) as server, callers(server) as stubs:
        calls = [each.emotion.ClassifyFaces(_faces(row % 7), timeout=60) for row, each in enumerate(stubs)]
        answers = await asyncio.gather(*calls)
        assert [classes_of(answer) for answer in answers] == [[row % 7] for row in range(CALLER_COUNT)]
        assert loader.servable.batch_sizes[-1] == CALLER_COUNT
        assert len(set(workers_of(server).pids)) == 2


class Load:
    """Callers that call again and again, and how each call ended."""

    def __init__(self, stubs: list[Stubs]) -> None:
        self.endings: list[list[grpc.StatusCode]] = [[] for _ in stubs]
        self.rejections: list[str] = []
        self._stop = False
        self._tasks = [asyncio.create_task(self._run(each, row)) for row, each in enumerate(stubs)]

    async def _run(self, stubs: Stubs, row: int) -> None:
        while not self._stop:
            try:
                answer = await stubs.emotion.ClassifyFaces(_faces(row % 7, 0), timeout=30)
                assert classes_of(answer) == [row % 7, 0]
                self.endings[row].append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                self.endings[row].append(error.code())
                self.rejections.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.05)

    async def goes_on(self, count: int = 5) -> None:
        """Waits until every caller was answered so many times more."""
        before = [ending.count(grpc.StatusCode.OK) for ending in self.endings]

        async def all_did() -> bool:
            now = [ending.count(grpc.StatusCode.OK) for ending in self.endings]
            return all(there >= then + count for there, then in zip(now, before, strict=True))

        await eventually(all_did)

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize(
    ("blow", "engine"),
    [(signal.SIGKILL, "process"), (signal.SIGKILL, "thread"), (signal.SIGSTOP, "process")],
    ids=["killed", "killed, engine thread", "hung"],
)
async def test_a_worker_process_that_dies_or_hangs_is_replaced_and_nobody_else_notices(
    models: Path, blow: signal.Signals, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_engines(models, engine) as loader:
        async with (
            worker_server(models, loader, metrics_listen="127.0.0.1:0") as server,
            callers_by_process(server, 3) as stubs,
        ):
            workers, engines = workers_of(server), children(ENGINE)
            victim, other = workers.pids
            lost, kept = Load(stubs[victim]), Load(stubs[other])
            await asyncio.gather(lost.goes_on(), kept.goes_on())
            await asyncio.sleep(0.5)  # a round of counts
            counted = await metric(server, "requests_total", method="ClassifyFaces", code="OK")
            os.kill(victim, blow)

            async def replaced() -> bool:
                # Never less than before, whatever the moment.
                assert await metric(server, "requests_total", method="ClassifyFaces", code="OK") >= counted
                return workers.running_count == 2 and victim not in workers.pids

            await eventually(replaced, HANG_S + 2 * DEADLINE_S)
            await asyncio.gather(lost.goes_on(), kept.goes_on())
            await asyncio.gather(lost.stop(), kept.stop())
            assert other in workers.pids
            assert kept.rejections == []
            assert {code for ending in lost.endings for code in ending} == {
                grpc.StatusCode.OK,
                grpc.StatusCode.UNAVAILABLE,
            }
            assert await metric(server, "worker_restarts_total") == 1
            assert ("it hung for 10 s and was killed" in caplog.text) == (blow is signal.SIGSTOP)
            assert set(children(ENGINE)) == set(engines)
            assert set(children(FRONT)) == set(workers.pids)

            async def nothing_left() -> bool:
                return workers.face_count == 0 and await metric(server, "queue_depth_faces", **VERSION) == 0

            await eventually(nothing_left)


VERSION = {"model": "fer-nano", "version": "1"}


async def test_requests_of_a_killed_worker_process_leave_the_queue(models: Path) -> None:
    loader = KeptLoader()
    unblocked, running = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_: object) -> None:
        loop.call_soon_threadsafe(running.set)
        unblocked.wait(60)

    async with worker_server(models, loader) as server, callers(server, 4) as stubs:
        workers = workers_of(server)
        loader.before_predict = hold
        try:
            bulk = emotion_pb2.ClassifyFacesRequest(packed=packed(1), priority=emotion_pb2.PRIORITY_BULK)
            first = asyncio.ensure_future(stubs[0].emotion.ClassifyFaces(bulk, timeout=60))
            await running.wait()
            waiting = [asyncio.ensure_future(each.emotion.ClassifyFaces(_faces(2), timeout=60)) for each in stubs]

            async def counted(count: int) -> bool:
                return workers.face_count == count

            await eventually(lambda: counted(5))
            for pid in workers.pids:
                os.kill(pid, signal.SIGKILL)
            endings = await asyncio.gather(first, *waiting, return_exceptions=True)
            assert {ending.code() for ending in endings if isinstance(ending, grpc.aio.AioRpcError)} == {
                grpc.StatusCode.UNAVAILABLE
            }
            await eventually(lambda: counted(0))
        finally:
            loader.before_predict = lambda _: None
            unblocked.set()

        async def back() -> bool:
            return workers.running_count == 2

        await eventually(back)
        async with callers(server, 4) as replacements:
            for each in replacements:
                assert classes_of(await each.emotion.ClassifyFaces(_faces(3), timeout=60)) == [3]


async def test_crops_that_find_no_room_in_the_shared_memory_are_rejected_at_once(models: Path) -> None:
    loader = KeptLoader()
    unblocked = threading.Event()
    chosen: dict[str, Any] = {"max_queue_mib": 1, "max_faces_per_request": 450, "processes": 2}
    async with worker_server(models, loader, **chosen) as server:
        loader.before_predict = lambda _: unblocked.wait(60)
        try:
            full = _faces(*(0 for _ in range(450)))  # 0.99 MiB
            calls = [asyncio.ensure_future(server.emotion.ClassifyFaces(full, timeout=60)) for _ in range(3)]
            _, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            rejected = [call for call in calls if call not in waiting]
            for call in rejected:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                rejection = rejection_of(caught.value)
                assert (rejection.code, rejection.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
                assert rejection.metadata["setting"] == "max_queue_mib"
                assert rejection.retry_delay_ms is not None
        finally:
            unblocked.set()
        endings = await asyncio.gather(*calls, return_exceptions=True)
        answered = [each for each in endings if not isinstance(each, BaseException)]
        assert [len(each.results) for each in answered] == [450]


async def test_a_drain_answers_what_was_taken_and_accepts_no_connection(models: Path) -> None:
    loader = KeptLoader()
    unblocked = threading.Event()
    async with worker_server(models, loader) as server, callers(server, 6) as stubs:
        loader.before_predict = lambda _: unblocked.wait(60)
        taken = [asyncio.ensure_future(each.emotion.ClassifyFaces(_faces(4), timeout=60)) for each in stubs]

        async def all_there() -> bool:
            return workers_of(server).face_count == len(stubs)

        await eventually(all_there)
        draining = server.running.drain()
        for each in stubs:
            await each.wait_until_gone()
        unblocked.set()
        assert [classes_of(answer) for answer in await asyncio.gather(*taken)] == [[4]] * len(stubs)
        assert await draining


async def test_a_drain_tells_when_a_worker_process_died_with_what_it_had_taken(models: Path) -> None:
    loader = KeptLoader()
    unblocked = threading.Event()
    async with worker_server(models, loader) as server, callers_by_process(server, 1) as stubs:
        victim, other = stubs
        loader.before_predict = lambda _: unblocked.wait(60)
        lost, kept = [
            asyncio.ensure_future(stubs[pid][0].emotion.ClassifyFaces(_faces(4), timeout=60))
            for pid in (victim, other)
        ]

        async def both_there() -> bool:
            return workers_of(server).face_count == 2

        await eventually(both_there)
        draining = server.running.drain()
        await stubs[other][0].wait_until_gone()
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lost
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        unblocked.set()
        assert classes_of(await kept) == [4]
        assert not await draining
        assert set(workers_of(server).pids) <= {other}  # none is started again


async def test_an_address_that_another_listens_on_is_rejected(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match="--listen"):
            async with worker_server(models, listen=address, ready=False):
                pass


async def test_what_a_worker_process_cannot_use_keeps_the_server_from_starting(
    tmp_path: Path, models: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(ListenError, match="TLS"):
        async with worker_server(models, tls_cert_file=broken, tls_key_file=broken, ready=False):
            pass


def test_a_worker_process_never_imports_tensorflow() -> None:
    look = (
        "import sys, ferserve_server.app.worker_main; "
        "print([name for name in sys.modules if name.split('.')[0] == 'tensorflow'])"
    )
    reported = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=120
    )
    assert reported.stdout.strip() == "[]"


async def test_leaving_the_server_leaves_no_process_behind(models: Path) -> None:
    async with worker_server(models) as server:
        assert isinstance(server, LocalServer)
        pids = workers_of(server).pids
        assert set(children(FRONT)) == set(pids)
    assert not any(map(runs, pids))


def _call_until_rejected(server: ServerProcess, answered: threading.Event) -> Rejection:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)
        while True:
            try:
                assert len(stub.ClassifyFaces(_faces(1, 2), timeout=30).results) == 2
            except grpc.RpcError as error:
                return rejection_of(error)
            answered.set()


@pytest.mark.parametrize(
    ("engine", "reported"),
    [("process", "the primary process"), ("process", "all of its processes"), ("thread", "the primary process")],
)
def test_sigterm_under_load_loses_no_call_that_was_taken(
    tiny_model_repo: Path, engine: str, reported: str
) -> None:
    """Supervisors send the signal to the server alone, or to every process of it."""
    flags = ("--processes", "3", "--engine", engine, "--lame-duck-s", "0.2")
    with run_server(tiny_model_repo, *flags) as server:
        pids = children(of=server.process.pid)
        assert len(children(FRONT, of=server.process.pid)) == 2
        assert len(pids) == {"process": 3, "thread": 2}[engine]
        answered = threading.Event()
        with ThreadPoolExecutor(6) as pool:
            callers = [pool.submit(_call_until_rejected, server, answered) for _ in range(6)]
            assert answered.wait(60)
            if reported == "all of its processes":
                for pid in pids:
                    os.kill(pid, signal.SIGTERM)
            server.terminate()
            endings = [caller.result(timeout=60) for caller in callers]
        assert {ending.code for ending in endings} == {grpc.StatusCode.UNAVAILABLE}
        assert all("failed to connect" in ending.message for ending in endings), endings
        assert server.wait() == 0
        assert server.wait_for_event("drained")
        assert not any(map(runs, pids))


def test_when_the_primary_process_is_killed_under_load_nothing_stays_behind(tiny_model_repo: Path) -> None:
    with run_server(tiny_model_repo, "--processes", "3") as server, ThreadPoolExecutor(4) as pool:
        pids = children(of=server.process.pid)
        assert len(pids) == 3
        assert not [line for pid in (*pids, server.process.pid) for line in named_shared_memory(pid)]
        answered = threading.Event()
        callers = [pool.submit(_call_until_rejected, server, answered) for _ in range(4)]
        assert answered.wait(60)
        server.process.kill()
        server.process.wait()
        wait_for_end(*pids)
        assert {caller.result(timeout=60).code for caller in callers} == {grpc.StatusCode.UNAVAILABLE}
