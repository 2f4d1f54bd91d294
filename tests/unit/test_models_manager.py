"""Tests that the manager keeps good versions active, whatever is put beside them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.errors import (
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRejectedError,
    VersionNotFoundError,
)
from ferserve_server.domain.servable import ModelSpec, ServableState
from ferserve_server.models.manifest import MANIFEST_PATH
from support.fake_clock import settle
from support.fake_models import publish_fake, rewrite_manifest, touch_later
from support.manager_bench import NEWEST, CountingLoader, Shop

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.backends.fake import FakeServable
    from ferserve_server.domain.servable import ModelDescription, ServableId


@pytest.fixture
def loader() -> CountingLoader:
    return CountingLoader()


@pytest.fixture
def shop(tmp_path: Path, loader: CountingLoader) -> Shop:
    return Shop(tmp_path, loader)


async def test_the_newest_version_goes_live(tmp_path: Path, shop: Shop, loader: CountingLoader) -> None:
    publish_fake(tmp_path, version=9)
    publish_fake(tmp_path, version=10)
    await shop.manager.refresh()
    assert shop.serving() == 10
    assert loader.loaded == [10]
    assert shop.manager.default_ready


async def test_the_default_model_is_loaded_first(tmp_path: Path, shop: Shop) -> None:
    """The server counts as ready with it, whatever else lies in the repository."""
    publish_fake(tmp_path, name="a-model-before-it")
    publish_fake(tmp_path)
    await shop.manager.refresh()
    ready = [name for name, state in shop.observer.states if state == "ready"]
    assert ready == ["fer-nano/1", "a-model-before-it/1"]


async def test_threads_switch_sooner_while_a_version_is_loaded_and_as_usual_after(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    usual_s = sys.getswitchinterval()
    seen: list[float] = []
    plain_load = loader.load

    def load(servable_id: ServableId, directory: Path, description: ModelDescription) -> FakeServable:
        seen.append(sys.getswitchinterval())
        return plain_load(servable_id, directory, description)

    loader.load = load  # type: ignore[method-assign]  # looks, and loads as before
    publish_fake(tmp_path)
    await shop.manager.refresh()
    assert seen[0] < usual_s
    assert sys.getswitchinterval() == usual_s


async def test_every_batch_size_is_warmed_before_a_version_goes_live(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path)
    await shop.manager.refresh()
    assert {1, 4} <= set(loader.servables[1].batch_sizes)
    assert shop.observer.states == [("fer-nano/1", state) for state in ("waiting", "loading", "ready")]
    assert shop.changes == 4  # of its states, and of the route


async def test_a_newer_version_becomes_active_and_the_old_one_is_unloaded(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    await settle()
    assert shop.serving() == 2
    assert shop.states() == {2: ServableState.READY, 1: ServableState.UNLOADED}
    assert loader.servables[1].closed
    assert not loader.servables[2].closed


async def test_with_two_versions_to_keep_both_answer(tmp_path: Path, loader: CountingLoader) -> None:
    shop = Shop(tmp_path, loader, versions_per_model=2)
    for version in (1, 2, 3):
        publish_fake(tmp_path, version=version)
    await shop.manager.refresh()
    assert shop.serving() == 3
    assert shop.serving(ModelSpec("fer-nano", 2)) == 2
    with pytest.raises(VersionNotFoundError):
        shop.manager.acquire(ModelSpec("fer-nano", 1))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelRejectedError("SIGNATURE_MISMATCH", "no"), "SIGNATURE_MISMATCH"),
        (RuntimeError("/secret/path"), "LOAD_FAILED"),
    ],
)
async def test_a_newer_version_that_fails_to_load_leaves_the_old_one_active(
    tmp_path: Path, shop: Shop, loader: CountingLoader, error: Exception, reason: str
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    loader.broken[2] = error
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    assert shop.serving() == 1
    failed = shop.manager.model("").versions[0]
    assert (failed.id.version, failed.state) == (2, ServableState.FAILED)
    assert failed.failure is not None
    assert failed.failure.reason == reason
    assert "/secret/path" not in failed.failure.message
    assert shop.manager.default_ready


async def test_at_start_a_broken_newest_version_gives_way_to_the_one_before_at_once(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    loader.broken = {3: RuntimeError(), 2: RuntimeError()}
    for version in (1, 2, 3):
        publish_fake(tmp_path, version=version)
    await shop.manager.refresh()
    assert shop.serving() == 1
    assert loader.loaded == [3, 2, 1]


async def test_scores_that_are_not_the_published_ones_keep_a_version_out(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    publish_fake(tmp_path, version=2, golden_off_by=0.1)
    await shop.manager.refresh()
    assert shop.serving() == 1
    failure = shop.manager.model("").versions[0].failure
    assert failure is not None
    assert failure.reason == "GOLDEN_MISMATCH"
    assert loader.servables[2].closed


async def test_a_changed_file_keeps_a_version_out_before_it_is_loaded(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    (publish_fake(tmp_path) / "saved_model.pb").write_bytes(b"other")
    await shop.manager.refresh()
    assert loader.loaded == []
    failure = shop.manager.model("").versions[0].failure
    assert failure is not None
    assert failure.reason == "FILE_CHANGED"


@pytest.mark.parametrize("changes", [{"name": "fer-wide"}, {"version": 2}])
async def test_a_manifest_of_another_version_is_rejected(
    tmp_path: Path, shop: Shop, changes: dict[str, object]
) -> None:
    rewrite_manifest(publish_fake(tmp_path), changes)
    await shop.manager.refresh()
    failure = shop.manager.model("").versions[0].failure
    assert failure is not None
    assert failure.reason == "MANIFEST_MISMATCH"


async def test_a_broken_version_is_tried_again_only_when_its_manifest_changed(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    manifest = publish_fake(tmp_path) / MANIFEST_PATH
    loader.broken[1] = RuntimeError()
    await shop.manager.refresh()
    await shop.manager.refresh()
    assert loader.loaded == [1]
    touch_later(manifest, manifest.stat().st_mtime_ns)
    loader.broken.clear()
    await shop.manager.refresh()
    await shop.manager.refresh()  # its files are the same at two looks
    assert loader.loaded == [1, 1]
    assert shop.serving() == 1


async def test_a_broken_version_that_is_removed_is_forgotten(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path, version=1)
    loader.broken[2] = RuntimeError()
    broken = publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    shutil.rmtree(broken)
    await shop.manager.refresh()
    assert shop.states() == {1: ServableState.READY}


async def test_a_lease_keeps_a_version_in_memory_until_it_is_returned(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    with shop.manager.acquire(NEWEST), shop.manager.acquire(NEWEST) as lease:
        publish_fake(tmp_path, version=2)
        await shop.manager.refresh()
        await settle()
        assert shop.serving() == 2
        assert shop.states()[1] is ServableState.DRAINING
        assert lease.scorer is shop.scorers[0]
        assert not shop.scorers[0].drained
        assert not loader.servables[1].closed
    await settle()
    assert shop.scorers[0].drained
    assert loader.servables[1].closed
    assert shop.states()[1] is ServableState.UNLOADED


async def test_a_lease_is_returned_also_when_its_block_fails(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    with pytest.raises(ZeroDivisionError), shop.manager.acquire(NEWEST):
        raise ZeroDivisionError
    await asyncio.wait_for(shop.manager.close(), 5)
    assert loader.servables[1].closed


async def test_a_version_that_vanishes_from_disk_stays_while_there_is_no_other(tmp_path: Path, shop: Shop) -> None:
    folder = publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    shutil.rmtree(folder.parent)
    await shop.manager.refresh()
    assert shop.serving() == 1
    assert shop.manager.default_ready


async def test_deleting_the_newest_version_rolls_back(tmp_path: Path, shop: Shop) -> None:
    publish_fake(tmp_path, version=1)
    newest = publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    shutil.rmtree(newest)
    await shop.manager.refresh()
    await settle()
    assert shop.serving() == 1
    assert shop.states() == {1: ServableState.READY, 2: ServableState.UNLOADED}


async def test_a_version_that_comes_back_while_its_old_load_drains_counts_as_ready(
    tmp_path: Path, shop: Shop
) -> None:
    publish_fake(tmp_path, version=1)
    await shop.manager.refresh()
    with shop.manager.acquire(NEWEST):
        newer = publish_fake(tmp_path, version=2)
        await shop.manager.refresh()
        shutil.rmtree(newer)
        await shop.manager.refresh()
        assert shop.serving() == 1
    await settle()
    assert shop.states()[1] is ServableState.READY
    assert [scorer.closed for scorer in shop.scorers] == [True, True, False]


async def test_before_the_first_look_the_default_model_is_not_ready_and_others_are_unknown(shop: Shop) -> None:
    with pytest.raises(ModelNotReadyError):
        shop.manager.acquire(NEWEST)
    with pytest.raises(ModelNotFoundError):
        shop.manager.acquire(ModelSpec("other"))
    with pytest.raises(ModelNotFoundError):
        shop.manager.model("")
    assert not shop.manager.default_ready
    assert shop.manager.models() == ()


async def test_a_model_with_broken_versions_only_is_not_ready(
    tmp_path: Path, shop: Shop, loader: CountingLoader
) -> None:
    loader.broken[1] = RuntimeError()
    publish_fake(tmp_path, "other", 1)
    await shop.manager.refresh()
    with pytest.raises(ModelNotReadyError):
        shop.manager.acquire(ModelSpec("other"))


async def test_models_are_reported_by_name_and_versions_newest_first(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = Shop(tmp_path, loader, versions_per_model=2)
    for name, version in [("wide", 1), ("fer-nano", 1), ("fer-nano", 2)]:
        publish_fake(tmp_path, name, version)
    await shop.manager.refresh()
    summary = [
        (model.name, model.default, [each.id.version for each in model.versions])
        for model in shop.manager.models()
    ]
    assert summary == [("fer-nano", True, [2, 1]), ("wide", False, [1])]
    ready = shop.manager.model("wide").versions[0]
    assert ready.bucket_sizes == (1, 4)
    assert ready.description is not None


async def test_an_engine_that_hangs_makes_the_default_model_unready(tmp_path: Path, shop: Shop) -> None:
    publish_fake(tmp_path)
    await shop.manager.refresh()
    shop.scorers[0].healthy = False
    assert not shop.manager.default_ready


async def test_an_observer_that_fails_does_no_harm(tmp_path: Path, shop: Shop) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    shop.observer.state_changed = fail  # type: ignore[method-assign]
    publish_fake(tmp_path)
    await shop.manager.refresh()
    assert shop.serving() == 1


async def test_closing_drains_and_unloads_everything(tmp_path: Path, loader: CountingLoader) -> None:
    shop = Shop(tmp_path, loader, versions_per_model=2)
    publish_fake(tmp_path, version=1)
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    await shop.manager.close()
    assert all(scorer.drained and scorer.closed for scorer in shop.scorers)
    assert all(servable.closed for servable in loader.servables.values())
    with pytest.raises(ModelNotReadyError):
        shop.manager.acquire(NEWEST)
