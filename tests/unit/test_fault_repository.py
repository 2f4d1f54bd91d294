"""Tests model folders copied slowly, unreadable for a while, or misnamed (faults, items 7, 8, 13 and 18)."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import structlog

from ferserve_server.domain.errors import ModelNotFoundError, ModelNotReadyError, ModelRejectedError
from ferserve_server.domain.servable import ModelSpec, ServableId, ServableState
from ferserve_server.models import source as source_module
from ferserve_server.models.failed_loads import FailedLoads, VersionStamp
from ferserve_server.models.manifest import MANIFEST_PATH
from ferserve_server.models.source import RepositorySource
from ferserve_server.models.tuning_cache import Measured, TuneCache
from ferserve_server.models.version_policy import All
from support.fake_clock import settle
from support.fake_models import publish_fake
from support.manager_bench import CountingLoader, Shop

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription


@pytest.fixture
def loader() -> CountingLoader:
    return CountingLoader()


def _states(shop: Shop, name: str) -> dict[int, str]:
    return {version: state.value for version, state in shop.states(name).items()}


def _failure(shop: Shop, name: str, version: int) -> ModelRejectedError:
    (failure,) = (each.failure for each in shop.manager.model(name).versions if each.id.version == version)
    assert isinstance(failure, ModelRejectedError)
    return failure


# What may go away by itself, and what is the same only by its time


async def test_a_failure_for_want_of_something_is_tried_again_later_and_later(
    tmp_path: Path, loader: CountingLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_fake(tmp_path)
    loader.broken[1] = OSError(24, "Too many open files")
    shop = Shop(tmp_path, loader)
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    await shop.manager.refresh()
    await shop.manager.refresh()
    assert loader.loaded == [1]
    assert "Too many open files" in _failure(shop, "fer-nano", 1).message
    assert "again in 1 s" in _failure(shop, "fer-nano", 1).message
    now += 1.1
    await shop.manager.refresh()
    now += 1.1
    await shop.manager.refresh()
    assert loader.loaded == [1, 1]  # the second pause is 2 s
    now += 1.0
    loader.broken.clear()
    await shop.manager.refresh()
    assert shop.serving() == 1


def test_pauses_double_up_to_five_minutes() -> None:
    failed, stamp = FailedLoads(), VersionStamp("sum")
    pauses = [failed.add(ServableId("m", 1), stamp, 0.0, transient=True) for _ in range(60)]
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(pauses[9:]) == {300.0}
    assert failed.add(ServableId("m", 2), stamp, 0.0, transient=False) is None


async def test_a_manifest_that_is_mended_with_the_same_time_is_read_again(
    tmp_path: Path, loader: CountingLoader
) -> None:
    manifest = publish_fake(tmp_path) / MANIFEST_PATH
    right = manifest.read_text()
    times = (manifest.stat().st_atime_ns, manifest.stat().st_mtime_ns)
    manifest.write_text(right.replace('"uint8"', '"uint9"'))
    os.utime(manifest, ns=times)
    shop = Shop(tmp_path, loader)
    await shop.manager.refresh()
    assert _failure(shop, "fer-nano", 1).reason == "MANIFEST_INVALID"
    manifest.write_text(right)
    os.utime(manifest, ns=times)
    await shop.manager.refresh()
    assert shop.serving() == 1


async def test_what_cannot_be_read_for_a_while_is_not_gone(
    tmp_path: Path, loader: CountingLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fer-nano", "fer-small"):
        publish_fake(tmp_path, name, 1)
        publish_fake(tmp_path, name, 2)
    shop = Shop(tmp_path, loader, policies={"fer-nano": All(), "fer-small": All()})
    await shop.manager.refresh()
    both = {1: "ready", 2: "ready"}
    path_type = type(tmp_path)
    real = path_type.iterdir
    for forbidden in (tmp_path, tmp_path / "fer-nano"):  # root may read all: chmod would prove nothing here

        def reject(path: Path, forbidden: Path = forbidden) -> object:
            if path == forbidden:
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(path_type, "iterdir", reject)
        await shop.manager.refresh()
        await settle()
        assert _states(shop, "fer-nano") == both
        assert _states(shop, "fer-small") == both
    monkeypatch.setattr(path_type, "iterdir", real)
    shutil.rmtree(tmp_path / "fer-nano" / "1")
    await shop.manager.refresh()
    await settle()
    assert _states(shop, "fer-nano")[2] == "ready"
    assert _states(shop, "fer-nano").get(1) in {None, "unloaded"}


async def test_a_manifest_that_cannot_be_read_for_a_while_is_not_gone(
    tmp_path: Path, loader: CountingLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_fake(tmp_path, version=1)
    publish_fake(tmp_path, version=2)
    shop = Shop(tmp_path, loader, policies={"fer-nano": All()})
    await shop.manager.refresh()

    def reject(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(RepositorySource, "_manifest_sum", reject)
    await shop.manager.refresh()
    await settle()
    assert _states(shop, "fer-nano") == {1: "ready", 2: "ready"}
    assert {each.reason for each in shop.manager.model("fer-nano").skipped} == {"MANIFEST_UNREADABLE"}


async def test_a_model_folder_that_is_gone_for_a_while_unloads_nothing(
    tmp_path: Path, loader: CountingLoader
) -> None:
    root = tmp_path / "models"
    publish_fake(root, version=1)
    publish_fake(root, version=2)
    shop = Shop(root, loader, policies={"fer-nano": All()})
    await shop.manager.refresh()
    root.rename(tmp_path / "elsewhere")
    with structlog.testing.capture_logs() as logs:
        await shop.manager.refresh()
        await shop.manager.refresh()
    await settle()
    assert _states(shop, "fer-nano") == {1: "ready", 2: "ready"}
    assert [each["why"] for each in logs if "model folder" in each["event"]] == ["No such file or directory"]


def test_measured_times_that_cannot_be_kept_fail_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    cache = TuneCache(tmp_path / "tune.json", "here")
    for method in ("write_text", "replace", "unlink"):
        monkeypatch.setattr(type(tmp_path), method, read_only)
    cache.write("sum", Measured(None, {1: 0.001}))
    assert cache.read("sum") == Measured()


# An exception outside the guarded part of loading


@pytest.mark.parametrize("where", ["scorer", "admission"])
async def test_a_version_that_cannot_be_activated_is_failed_and_the_next_one_loads(
    tmp_path: Path, loader: CountingLoader, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_fake(tmp_path)
    shop = Shop(tmp_path, loader)

    def fail(*_: object) -> None:
        raise RuntimeError("no more threads")

    if where == "scorer":
        monkeypatch.setattr(shop.manager._loader, "_make_scorer", fail)
    else:
        monkeypatch.setattr(shop.manager._rollout, "admit", fail)
    await shop.manager.refresh()
    assert _states(shop, "fer-nano") == {1: "failed"}
    assert loader.servables[1].closed
    monkeypatch.undo()
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    assert shop.serving() == 2


async def test_a_version_that_cannot_be_unloaded_in_good_order_is_unloaded_all_the_same(
    tmp_path: Path, loader: CountingLoader
) -> None:
    publish_fake(tmp_path)
    shop = Shop(tmp_path, loader)
    await shop.manager.refresh()

    async def fail() -> None:
        raise RuntimeError("broken")

    shop.scorers[0].close = fail
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    await settle()
    assert _states(shop, "fer-nano") == {1: "unloaded", 2: "ready"}


# Models on disk that are not loaded yet


class _WatchingLoader(CountingLoader):
    """Notes, whenever a version is loaded, what callers of all models are reported."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.reported: list[dict[str, str]] = []
        self.shop: Shop | None = None

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription):
        assert self.shop is not None
        reported = {}
        for name in self.names:
            try:
                self.shop.manager.acquire(ModelSpec(name)).__exit__(None, None, None)
                reported[name] = "ready"
            except (ModelNotReadyError, ModelNotFoundError) as error:
                reported[name] = error.reason
        self.reported.append(reported)
        self.reported.append({name: self.shop.states(name)[1].value for name in self.names})
        return super().load(servable_id, directory, description)


async def test_all_models_of_the_first_look_are_known_before_any_is_loaded(tmp_path: Path) -> None:
    names = ("fer-nano", "fer-small", "fer-wide")
    for name in names:
        publish_fake(tmp_path, name)
    loader = _WatchingLoader(names)
    shop = loader.shop = Shop(tmp_path, loader)
    await shop.manager.refresh()
    assert loader.reported[0] == dict.fromkeys(names, "MODEL_NOT_READY")
    assert sorted(loader.reported[1].values()) == ["loading", "waiting", "waiting"]
    assert [_states(shop, name) for name in names] == [{1: "ready"}] * 3
    with pytest.raises(ModelNotFoundError):
        shop.manager.acquire(ModelSpec("fer-none"))


async def test_a_version_that_is_gone_before_it_is_loaded_is_not_listed_as_waiting(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = Shop(tmp_path, loader)
    shop.manager._statuses.set_waiting([ServableId("fer-gone", 1)])
    await shop.manager.refresh()
    assert shop.manager.models() == ()


# Versions that are copied file by file, and folders that are skipped


async def test_a_version_that_is_copied_file_by_file_is_served_when_it_is_whole(
    tmp_path: Path, loader: CountingLoader
) -> None:
    whole = publish_fake(tmp_path / "elsewhere")
    copied = tmp_path / "models" / "fer-nano" / "1"
    (copied / "assets.extra").mkdir(parents=True)
    shop = Shop(tmp_path / "models", loader)
    for name in ("assets.extra/manifest.json", "assets.extra/golden.npz"):
        shutil.copy(whole / name, copied / name)
        await shop.manager.refresh()
    assert _failure(shop, "fer-nano", 1).reason == "FILE_MISSING"
    content = (whole / "saved_model.pb").read_bytes()
    (copied / "saved_model.pb").write_bytes(content[:5])
    await shop.manager.refresh()  # it has changed, and may change still
    (copied / "saved_model.pb").write_bytes(content)
    await shop.manager.refresh()
    assert _states(shop, "fer-nano") == {1: "failed"}
    await shop.manager.refresh()
    assert shop.serving() == 1


async def test_a_version_that_is_broken_for_good_is_read_once(tmp_path: Path, loader: CountingLoader) -> None:
    folder = publish_fake(tmp_path)
    loader.broken[1] = RuntimeError()
    shop = Shop(tmp_path, loader)
    for _ in range(5):
        await shop.manager.refresh()
    assert loader.loaded == [1]
    assert folder.is_dir()


async def test_folders_that_are_no_version_are_reported_with_a_reason_once(
    tmp_path: Path, loader: CountingLoader
) -> None:
    publish_fake(tmp_path)
    for folder in ("fer-nano/0002", "fer-nano/v2", "fer-nano/.staging", "face model/1", "flat", ".hidden/1"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("fer-nano/3", "flat"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "saved_model.pb").write_bytes(b"x")
    shop = Shop(tmp_path, loader)
    with structlog.testing.capture_logs() as logs:
        await shop.manager.refresh()
        await shop.manager.refresh()
    expected = {
        ("fer-nano", "0002", "VERSION_NAME_INVALID"),
        ("fer-nano", "v2", "VERSION_NAME_INVALID"),
        ("fer-nano", "3", "MANIFEST_MISSING"),
        ("face model", "", "MODEL_NAME_INVALID"),
        ("flat", "", "VERSION_FOLDER_MISSING"),
    }
    listed = {(each.model, each.folder, each.reason) for model in shop.manager.models() for each in model.skipped}
    assert listed == expected
    lines = [each for each in logs if each["event"] == "folder skipped"]
    assert len(lines) == len(expected)
    assert {each["log_level"] for each in lines} == {"warning"}


@pytest.mark.parametrize("deeper", ["", "fer-nano", "fer-nano/1"])
async def test_a_model_folder_that_is_a_level_off_is_reported_so(
    tmp_path: Path, loader: CountingLoader, deeper: str
) -> None:
    publish_fake(tmp_path / "models")
    roots = {"": tmp_path, "fer-nano": tmp_path / "models/fer-nano", "fer-nano/1": tmp_path / "models/fer-nano/1"}
    shop = Shop(roots[deeper], loader)
    with structlog.testing.capture_logs() as logs:
        await shop.manager.refresh()
    assert [each["reason"] for each in logs if each["event"] == "folder skipped"] == [
        {"": "PATH_TOO_HIGH", "fer-nano": "PATH_TOO_DEEP", "fer-nano/1": "PATH_TOO_DEEP"}[deeper]
    ]


def test_of_very_many_folders_that_are_no_version_a_hundred_are_reported(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / "photos" / f"day {number}").mkdir(parents=True)
    assert len(RepositorySource(tmp_path).scan().skipped) == source_module._MAX_SKIPPED


async def test_the_state_of_models_is_that_of_the_enumeration(tmp_path: Path, loader: CountingLoader) -> None:
    publish_fake(tmp_path)
    shop = Shop(tmp_path, loader)
    await shop.manager.refresh()
    assert shop.states() == {1: ServableState.READY}
