"""Tests aliases, and versions that an operator loads and unloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.control_errors import StateNotSavedError
from ferserve_server.domain.errors import (
    AliasFixedError,
    AliasNotFoundError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRejectedError,
    VersionInUseError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from ferserve_server.domain.servable import ModelSpec, ServableState
from ferserve_server.models.aliases import Aliases
from ferserve_server.models.version_policy import All, Specific
from support.fake_clock import settle
from support.fake_models import publish_fake
from support.manager_bench import CountingLoader, Shop

if TYPE_CHECKING:
    from pathlib import Path

CANARY = ModelSpec(alias="canary")


@pytest.fixture
def loader() -> CountingLoader:
    return CountingLoader()


async def _shop(root: Path, loader: CountingLoader, *versions: int, **chosen) -> Shop:
    for version in versions:
        publish_fake(root, version=version)
    shop = Shop(root, loader, **chosen)
    await shop.manager.refresh()
    return shop


async def test_requests_without_a_version_go_to_stable_and_others_to_what_they_name(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2, versions_per_model=2)
    await shop.manager.set_alias("", "stable", 1)
    await shop.manager.set_alias("fer-nano", "canary", 2)
    assert shop.serving() == 1
    assert shop.serving(CANARY) == 2
    assert shop.serving(ModelSpec("fer-nano", alias="stable")) == 1
    assert shop.serving(ModelSpec("fer-nano", 2)) == 2
    assert shop.observer.routes["fer-nano"] == ({"canary": 2, "stable": 1}, 1)
    await shop.manager.set_alias("", "stable", None)
    assert shop.serving() == 2
    assert shop.saved[-1] == {"fer-nano": {"canary": 2}}


async def test_what_is_active_is_reported(tmp_path: Path, loader: CountingLoader) -> None:
    shop = await _shop(
        tmp_path, loader, 1, 2, policies={"fer-nano": All()}, aliases=Aliases({"fer-nano": {"stable": 1}})
    )
    model = shop.manager.model("")
    assert (model.policy, model.aliases, model.serving_version) == ("all", {"stable": 1}, 1)
    newer, older = model.versions
    assert older.validation is not None
    assert older.validation.comparison is None
    assert newer.validation is not None
    assert newer.validation.comparison is not None
    assert (newer.validation.comparison.version, newer.validation.comparison.agreement) == (1, 1.0)


async def test_an_alias_keeps_its_version_active_while_newer_ones_come(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1)
    await shop.manager.set_alias("", "stable", 1)
    for version in (2, 3):
        publish_fake(tmp_path, version=version)
        await shop.manager.refresh()
    await settle()
    assert shop.serving() == 1
    assert shop.states() == {3: ServableState.READY, 2: ServableState.UNLOADED, 1: ServableState.READY}


async def test_an_alias_that_there_is_not_is_reported_with_those_there_are(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1)
    await shop.manager.set_alias("", "stable", 1)
    with pytest.raises(AliasNotFoundError, match="its aliases: stable"):
        shop.manager.acquire(CANARY)
    with pytest.raises(AliasNotFoundError):
        await shop.manager.set_alias("", "canary", None)
    with pytest.raises(ModelNotFoundError):
        shop.manager.acquire(ModelSpec("other", alias="stable"))
    with pytest.raises(ModelNotFoundError):
        await shop.manager.set_alias("other", "stable", 1)


async def test_before_the_first_look_an_alias_is_to_be_waited_for(tmp_path: Path, loader: CountingLoader) -> None:
    shop = Shop(tmp_path, loader)
    with pytest.raises(ModelNotReadyError):
        shop.manager.acquire(CANARY)


async def test_an_alias_cannot_be_set_to_a_version_that_is_not_ready(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2)
    with pytest.raises(VersionNotReadyError, match="version 1, which is not ready"):
        await shop.manager.set_alias("", "stable", 1)
    assert shop.serving() == 2
    assert shop.saved == []


async def test_an_alias_of_the_settings_cannot_be_changed(tmp_path: Path, loader: CountingLoader) -> None:
    fixed = Aliases({"fer-nano": {"stable": 1}})
    shop = await _shop(tmp_path, loader, 1, 2, aliases=fixed)
    for version in (2, None):
        with pytest.raises(AliasFixedError):
            await shop.manager.set_alias("", "stable", version)
    assert shop.serving() == 1


async def test_while_the_version_of_an_alias_is_broken_it_says_so_and_no_newer_one_stands_in(
    tmp_path: Path, loader: CountingLoader
) -> None:
    loader.broken[2] = RuntimeError()
    aliases = Aliases({"fer-nano": {"stable": 2, "canary": 2}})
    shop = await _shop(tmp_path, loader, 2, 3, aliases=aliases)
    for spec in (ModelSpec(), CANARY):
        with pytest.raises(VersionNotReadyError):
            shop.manager.acquire(spec)
    assert not shop.manager.default_ready
    assert shop.serving(ModelSpec("", 3)) == 3


async def test_a_version_that_an_alias_or_a_policy_names_and_that_is_not_there_is_listed_as_missing(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(
        tmp_path,
        loader,
        1,
        policies={"fer-nano": Specific((1, 7))},
        aliases=Aliases({"fer-nano": {"canary": 4}, "typo": {"stable": 1}}),
    )
    assert shop.states() == {7: ServableState.FAILED, 4: ServableState.FAILED, 1: ServableState.READY}
    assert shop.states("typo") == {1: ServableState.FAILED}
    failure = shop.manager.model("").versions[0].failure
    assert failure is not None
    assert failure.reason == "VERSION_MISSING"
    changes = shop.changes
    await shop.manager.refresh()
    assert shop.changes == changes
    publish_fake(tmp_path, version=7)
    publish_fake(tmp_path, version=4)
    await shop.manager.refresh()
    assert shop.states() == dict.fromkeys((7, 4, 1), ServableState.READY)


async def test_an_alias_that_cannot_be_saved_is_rejected_and_stays_as_it_was(
    tmp_path: Path, loader: CountingLoader
) -> None:
    def fail(_: object) -> None:
        raise OSError("disk full")

    shop = await _shop(tmp_path, loader, 1)
    shop.manager._save_state = fail
    with pytest.raises(StateNotSavedError, match="disk full"):
        await shop.manager.set_alias("", "canary", 1)
    with pytest.raises(AliasNotFoundError):
        shop.serving(CANARY)


async def test_a_version_is_loaded_beside_what_the_policy_wants_and_stays(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2)
    await shop.manager.load("", 1)
    await shop.manager.load("", 1)
    await shop.manager.refresh()
    await settle()
    assert loader.loaded == [2, 1]
    assert shop.states() == dict.fromkeys((2, 1), ServableState.READY)
    assert shop.serving() == 2


async def test_a_version_that_was_let_go_stays_away_until_it_is_loaded_again(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2, versions_per_model=2)
    await shop.manager.unload("", 2)
    assert shop.serving() == 1
    await shop.manager.refresh()
    await settle()
    assert shop.states() == {2: ServableState.UNLOADED, 1: ServableState.READY}
    assert loader.servables[2].closed
    await shop.manager.load("", 2)
    assert shop.serving() == 2


async def test_what_cannot_be_loaded_says_why_and_a_second_try_is_a_try(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2)
    loader.broken[1] = ModelRejectedError("SIGNATURE_MISMATCH", "no")
    with pytest.raises(ModelRejectedError, match="no"):
        await shop.manager.load("", 1)
    with pytest.raises(VersionNotFoundError):
        await shop.manager.load("", 9)
    loader.broken.clear()
    await shop.manager.load("", 1)
    assert shop.states() == dict.fromkeys((2, 1), ServableState.READY)


async def test_a_version_with_an_alias_and_the_last_one_are_not_let_go(
    tmp_path: Path, loader: CountingLoader
) -> None:
    shop = await _shop(tmp_path, loader, 1, 2, versions_per_model=2)
    await shop.manager.set_alias("", "stable", 1)
    with pytest.raises(VersionInUseError, match="alias stable names it"):
        await shop.manager.unload("", 1)
    await shop.manager.unload("", 2)
    await shop.manager.set_alias("", "stable", None)
    with pytest.raises(VersionInUseError, match="no other version"):
        await shop.manager.unload("", 1)
    with pytest.raises(VersionNotFoundError):
        await shop.manager.unload("", 2)
    assert shop.serving() == 1
