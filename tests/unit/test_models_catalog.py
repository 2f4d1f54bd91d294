"""Tests that a worker process resolves the same version, or raises the same error, as the primary process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.models.aliases import Aliases
from ferserve_server.models.catalog import CatalogSnapshot, ServiceState
from support.fake_models import publish_fake
from support.manager_bench import CountingLoader, Shop

if TYPE_CHECKING:
    from pathlib import Path

SPECS = [
    ModelSpec(name, version, alias)
    for name in ("", "fer-nano", "other", "broken", "none")
    for version, alias in ((None, ""), (1, ""), (2, ""), (9, ""), (None, "stable"), (None, "beta"), (None, "gone"))
]


def _directory(shop: Shop) -> CatalogSnapshot:
    return CatalogSnapshot(ServiceState("fer-nano", shop.manager.default_ready, shop.manager.models()))


def _outcome(resolve) -> object:
    try:
        return resolve()
    except FerserveError as error:
        return type(error), error.message, error.metadata


def _compare(shop: Shop, spec: ModelSpec) -> None:
    def by_registry() -> object:
        with shop.manager.acquire(spec) as lease:
            return lease.id, lease.description

    directory = _directory(shop)
    assert _outcome(lambda: directory.resolve(spec)) == _outcome(by_registry)


@pytest.mark.parametrize("spec", SPECS, ids=str)
async def test_every_request_gets_what_the_primary_would_give(tmp_path: Path, spec: ModelSpec) -> None:
    for version in (1, 2):
        publish_fake(tmp_path, version=version)
    publish_fake(tmp_path, "other", 1)
    publish_fake(tmp_path, "broken", 1, golden_off_by=0.5)
    aliases = Aliases({"fer-nano": {"stable": 1}, "other": {"beta": 1, "stable": 9}})
    shop = Shop(tmp_path, CountingLoader(), versions_per_model=2, aliases=aliases)
    await shop.manager.refresh()
    _compare(shop, spec)


@pytest.mark.parametrize("name", ["", "fer-nano", "none"])
async def test_before_the_first_look_at_the_folder_the_default_model_is_waited_for(
    tmp_path: Path, name: str
) -> None:
    _compare(Shop(tmp_path, CountingLoader()), ModelSpec(name))


async def test_models_are_reported_by_name_and_the_default_one_by_none(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    shop = Shop(tmp_path, CountingLoader())
    await shop.manager.refresh()
    directory = _directory(shop)
    assert directory.model("") == directory.model("fer-nano") == shop.manager.model("")
    assert _outcome(lambda: directory.model("none")) == _outcome(lambda: shop.manager.model("none"))
