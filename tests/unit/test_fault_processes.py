"""Tests processes, their memory, limits and background work (faults, items 2, 6b, 8, 14 and 20)."""

from __future__ import annotations

import asyncio
import errno
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
from ferserve_server.models.state_file import LifecycleState, Rejection, StateFile, read_state, write_state
from ferserve_server.models.validation import ValidationLimits
from ferserve_server.runtime.background_tasks import background, supervise
from ferserve_server.runtime.cgroup import available_bytes, cpu_quota, whole_cores
from support.engine_bench import bench
from support.fake_models import publish_fake

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription

LAYOUT = SlotLayout(2, 4096, 4096)

# -- item 2: limits of a step


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


# -- item 6b: what an engine process may do to the server


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


# -- item 8: background work


async def test_work_that_fails_is_counted_and_started_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, failures, runs = [], [], []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def work() -> None:
        runs.append(1)
        if len(runs) <= 12:
            raise RuntimeError("broken")

    await supervise("models", work, failures.append)
    assert failures == ["models"] * 12
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


async def test_a_count_that_fails_does_not_end_the_work_either() -> None:
    runs = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("broken")

    await supervise("models", work, lambda _: 1 // 0)
    assert len(runs) == 2


async def test_background_work_ends_with_its_block() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with background("work", work):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait_for(ended.wait(), 20)


# -- item 14: decisions are saved, or rejected

STATE = LifecycleState({"fer-nano": {"stable": 3}}, {ServableId("fer-nano", 5): Rejection("ab" * 32, "R", "text")})


def test_a_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a container mounts by itself: rename(2) says EBUSY."""
    path = tmp_path / "state.json"
    write_state(path, LifecycleState({"fer-nano": {"a-long-alias-that-is-gone-afterwards": 12345}}))
    inode = path.stat().st_ino

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(type(path), "replace", busy)
    write_state(path, STATE)
    assert path.stat().st_ino == inode
    assert read_state(path) == STATE
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_nothing_is_reported_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "state.json"
    write_state(path, STATE)

    def full(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_state(path, LifecycleState())
    assert read_state(path) == STATE


def test_what_another_server_wrote_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    mine, other = StateFile(path), StateFile(path)
    assert mine.read() == other.read() == LifecycleState()
    mine.write(STATE)
    mine.write(LifecycleState({"fer-nano": {"stable": 4}}))
    with pytest.raises(OSError, match="another server"):
        other.write(LifecycleState({"fer-nano": {"stable": 9}}))
    assert read_state(path).aliases == {"fer-nano": {"stable": 4}}
    other.read()
    other.write(LifecycleState({"fer-nano": {"stable": 9}}))
    assert read_state(path).aliases == {"fer-nano": {"stable": 9}}


def test_without_a_file_nothing_is_kept() -> None:
    state_file = StateFile(None)
    state_file.write(STATE)
    assert state_file.read() == LifecycleState()


# -- item 20: control groups


def _group(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    return root, tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
        ("0::/not/seen/from/here\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../outside\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/a\n1:name=systemd:/\n",
            {"cpu/a/cpu.cfs_quota_us": "25000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.25,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": "0 0"}, None),
    ],
)
def test_the_quota_is_the_least_of_the_own_group_and_those_above(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    root, proc = _group(tmp_path, own, files)
    assert cpu_quota(root, proc) == quota


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"), [(64, None, 64), (64, 0.5, 1), (64, 1.5, 2), (2, 8.0, 2), (1, 0.1, 1)]
)
def test_threads_are_planned_for_the_cores_that_there_is_time_for(
    affinity: int, quota: float | None, cores: int
) -> None:
    assert whole_cores(affinity, quota) == cores


def test_free_memory_is_the_least_of_the_machine_and_the_group(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   1048576 kB\n")
    files = {"memory.max": "max", "a/memory.max": "536870912", "a/memory.current": "268435456"}
    root, proc = _group(tmp_path, "0::/a\n", files)
    assert available_bytes(root, proc, meminfo) == 256 << 20
    (root / "a" / "memory.stat").write_text("anon 5\ninactive_file 1048576\n")
    assert available_bytes(root, proc, meminfo) == 257 << 20
    assert available_bytes(tmp_path / "none", proc, meminfo) == 1 << 30
    assert available_bytes(tmp_path / "none", proc, tmp_path / "none") == 0


def test_what_this_machine_says_can_be_read() -> None:
    assert available_bytes() > 0
