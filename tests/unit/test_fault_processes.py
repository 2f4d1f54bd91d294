"""Tests processes, their memory, limits and background work (faults, items 2, 6b, 8, 14 and 20)."""

from __future__ import annotations

import asyncio
import fcntl
import json
import mmap
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.domain.errors import EngineLostError, ModelRejectedError
from ferserve_server.domain.servable import ServableId
from ferserve_server.engine.messages import (
    AnswerInvalidError,
    BatchKind,
    EngineRaisedError,
    pack,
    read,
    read_count,
    rejection,
)
from ferserve_server.engine.step_limits import StepLimits, StepUse, exceeded_limit, longest_delay_s
from ferserve_server.ipc.child_process import child_environment
from ferserve_server.ipc.shared_memory import SharedBlock, SlotLayout
from ferserve_server.models.daemon_call import call_on_daemon_thread
from ferserve_server.models.preparation import VersionPreparer
from ferserve_server.models.source import RepositorySource
from ferserve_server.models.validation import ValidationLimits
from support.engine_bench import bench
from support.fake_models import publish_fake

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription

LAYOUT = SlotLayout(2, 4096, 4096)

# Limits of a step


@pytest.mark.parametrize(
    ("use", "low_priority", "reason"),
    [
        (StepUse(9.9, 9.9, 99), False, None),
        (StepUse(10.1, 0.0, 99), False, "LOAD_TIMED_OUT"),
        (StepUse(49.0, 9.0, 99), True, None),  # it got no processor time beside live traffic
        (StepUse(50.1, 1.0, 99), True, "LOAD_TIMED_OUT"),
        (StepUse(12.0, 11.0, 99), True, "LOAD_TIMED_OUT"),  # an endless loop
        (StepUse(12.0, 11.0, 99), False, "LOAD_TIMED_OUT"),
        (StepUse(1.0, 8.0, 99), False, None),  # eight threads
        (StepUse(0.1, 0.1, 101), False, "LOAD_OUT_OF_MEMORY"),
    ],
)
def test_a_step_ends_by_time_processor_time_or_memory(
    use: StepUse, low_priority: bool, reason: str | None
) -> None:
    fault = exceeded_limit(use, StepLimits(10.0, 100), low_priority=low_priority)
    assert (fault and fault[0]) == reason


def test_time_that_a_process_waits_for_a_processor_does_not_count() -> None:
    before = {"1": 5.0, "2": 0.5}
    assert longest_delay_s(before, {"1": 5.25, "2": 1.25, "3": 9.0}, 1.0) == 0.75
    assert longest_delay_s(before, {"1": 99.0, "2": 0.5}, 1.0) == 1.0
    assert longest_delay_s({}, {}, 1.0) == 0.0
    assert longest_delay_s(before, {}, 1.0) == 0.0


def test_without_a_known_limit_memory_ends_nothing() -> None:
    assert exceeded_limit(StepUse(1.0, 1.0, 1 << 50), StepLimits(10.0, 0), low_priority=False) is None


async def test_work_that_never_ends_can_be_given_up_and_its_late_result_is_closed() -> None:
    go_on, given_up = threading.Event(), threading.Event()
    results = []

    def work() -> str:
        go_on.wait(30)
        return "late"

    def give_up(result: str) -> None:
        results.append(result)
        given_up.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call_on_daemon_thread(work, give_up)
    go_on.set()
    assert await asyncio.to_thread(given_up.wait, 30)
    assert results == ["late"]


async def test_work_on_a_daemon_thread_returns_or_raises_what_it_does() -> None:
    assert await call_on_daemon_thread(lambda: 7, print) == 7
    with pytest.raises(ZeroDivisionError):
        await call_on_daemon_thread(lambda: 1 // 0, print)


class _HangingLoader(FakeLoader):
    """Loads when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.made: list[FakeServable] = []

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        self.go_on.wait(30)
        self.made.append(super().load(servable_id, directory, description))
        return self.made[-1]


async def test_a_thread_that_loads_without_end_is_given_up_and_closes_what_it_makes_late(tmp_path: Path) -> None:
    """With --engine thread nothing can be killed."""
    publish_fake(tmp_path)
    loader, source = _HangingLoader(), RepositorySource(tmp_path)
    preparer = VersionPreparer(source, loader, ValidationLimits((1, 4), golden_tolerance=1e-3), timeout_s=0.05)
    with pytest.raises(ModelRejectedError) as caught:
        await preparer.prepare(ServableId("fer-nano", 1), None)
    assert caught.value.reason == "LOAD_TIMED_OUT"
    loader.go_on.set()
    async with asyncio.timeout(30):
        while not (loader.made and loader.made[0].closed):  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.005)


async def test_a_stop_ends_the_reading_of_files(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    preparer = VersionPreparer(
        RepositorySource(tmp_path), FakeLoader(), ValidationLimits((1, 4), golden_tolerance=1e-3)
    )
    preparer.stop()
    with pytest.raises(ModelRejectedError) as caught:
        await preparer.prepare(ServableId("fer-nano", 1), None)
    assert caught.value.reason == "LOAD_CANCELLED"


# What an engine process may do to the server


def test_the_size_of_shared_memory_cannot_be_changed_and_only_its_user_may_open_it() -> None:
    block = SharedBlock.create(LAYOUT)
    for size in (0, LAYOUT.block_bytes // 2, LAYOUT.block_bytes * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(block.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(block.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert stat.S_IMODE(os.fstat(block.fd).st_mode) == 0o600
    block.close()


def test_memory_that_its_sender_could_cut_is_rejected() -> None:
    fd = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LAYOUT.block_bytes)
    with pytest.raises(ValueError, match="not sealed"):
        SharedBlock(fd, LAYOUT)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_cutting_memory_that_is_not_sealed_would_have_ended_the_process() -> None:
    """What the seals are for: reading beyond the end of a mapped file is SIGBUS."""
    fd = os.memfd_create("loose")
    os.ftruncate(fd, 8192)
    memory = mmap.mmap(fd, 8192)
    os.ftruncate(fd, 0)
    pid = os.fork()
    if pid == 0:
        memory[0]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -7
    os.close(fd)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"no JSON",
        b"[]",
        b"7",
        b'{"done": 7}',
        b'{"rejected": {}}',
        b'{"rejected": {"reason": "A", "message": "B", "facts": [1]}}',
        b'{"raised": "x"}',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_distinguished_from_one(message: bytes) -> None:
    with pytest.raises(AnswerInvalidError):
        read(message)


def test_facts_of_a_rejection_cannot_stand_in_for_its_reason() -> None:
    facts = {"reason": "OTHER", "message": "other", "file": "x"}
    message = json.dumps({"rejected": {"reason": "FILE_MISSING", "message": "gone", "facts": facts}})
    with pytest.raises(ModelRejectedError) as caught:
        read(message.encode())
    assert (caught.value.reason, caught.value.metadata) == ("FILE_MISSING", {"file": "x"})


def test_failures_that_may_go_away_are_reported_as_such_by_the_engine() -> None:
    for error, transient in ((OSError(24, "x"), True), (MemoryError(), True), (ValueError(), False)):
        with pytest.raises(EngineRaisedError) as caught:
            read(rejection(error))
        assert caught.value.transient is transient


@pytest.mark.parametrize("value", [0, -1, 1025, True, 1.5, "4", None, 10**30])
def test_a_count_out_of_range_is_rejected(value: object) -> None:
    with pytest.raises(AnswerInvalidError):
        read_count({"executor_count": value}, "executor_count", 1024)


@pytest.mark.parametrize("lie", ["sequence", "slot", "kind", "duration_ns", "no message"])
async def test_an_engine_that_answers_what_was_not_asked_is_ended_and_replaced(lie: str) -> None:
    async with bench() as made:
        asked = await made.submit(1)
        batch = made.engine.life.take()
        right = batch._replace(kind=BatchKind.SCORED, duration_ns=1)
        wrong = {"sequence": 999, "slot": 2, "kind": BatchKind.RUN, "duration_ns": 2**60}
        message = b"?" if lie == "no message" else pack(right._replace(**{lie: wrong[lie]}))
        made.engine.life.theirs.send(message)

        with pytest.raises(EngineLostError):
            await asked
        await made.until(lambda: made.restarts)


def test_an_environment_is_cut_down_to_what_libraries_need() -> None:
    kept = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "LD_PRELOAD": "x.so",
    }
    secret = {
        "AWS_SECRET_ACCESS_KEY": "x",
        "FERSERVE_CONTROL_TOKEN_FILE": "x",
        "PGPASSWORD": "x",
        "HTTP_PROXY": "x",
    }
    assert child_environment(kept | secret) == kept


def test_only_children_without_a_models_code_learn_where_traces_go():
    exported = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=token"}
    assert child_environment(exported) == {}
    assert child_environment(exported, ("OTEL_",)) == exported
