"""Tests canaries: their share, their promotion and their rollback."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ferserve_server.domain import metrics
from ferserve_server.domain.canary import CanaryMode
from ferserve_server.domain.control_errors import NoCanaryError, NoOlderVersionError
from ferserve_server.domain.errors import (
    AliasFixedError,
    EngineStalledError,
    FerserveError,
    InferenceFailedError,
    VersionNotFoundError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableState
from ferserve_server.models.aliases import Aliases
from ferserve_server.models.canary.rules import CanaryPolicies, CanaryRules
from ferserve_server.models.canary.traffic_split import Canaries
from ferserve_server.models.rollout import ROLLED_BACK
from support.canaries import TunedScorer, ask, time_batches
from support.fake_clock import FakeClock, settle
from support.fake_models import publish_fake
from support.manager_bench import CountingLoader, Shop
from support.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

RULES = CanaryRules(share=0.25, window_s=60.0, min_requests=20)
SHADOW = replace(RULES, share=1.0, mode=CanaryMode.SHADOW)


class CanaryShop(Shop):
    """A manager with canaries on, the clock they go by, and what it reports of them."""

    def __init__(
        self, root: Path, rules: CanaryRules = RULES, by_model: dict[str, CanaryRules] | None = None, **chosen
    ) -> None:
        self.clock = FakeClock()
        self.summary = Recorder()
        policies = CanaryPolicies(rules, by_model or {})
        self.canaries = Canaries(policies, clock=self.clock, recorder=self.summary)
        super().__init__(root, CountingLoader(), canaries=self.canaries, **chosen)

    def _make_scorer(self, servable, tuning) -> TunedScorer:
        self.scorers.append(TunedScorer(servable))
        return self.scorers[-1]

    async def look(self, seconds: float = 61.0) -> None:
        """Lets time pass and judges."""
        self.clock.advance(seconds)
        await self.manager.judge_canaries()
        await settle()

    @property
    def aliases(self) -> dict[str, int]:
        return dict(self.manager.model("").aliases)

    def rejection(self, version: int) -> FerserveError | None:
        (found,) = [each for each in self.manager.model("").versions if each.id.version == version]
        assert found.state is ServableState.FAILED
        return found.failure


async def _tried(root: Path, rules: CanaryRules = RULES, **chosen) -> CanaryShop:
    """Version 1 active and version 2 as its canary."""
    shop = CanaryShop(root, rules, **chosen)
    for version in (1, 2):
        publish_fake(root, version=version)
        await shop.manager.refresh()
    return shop


def _shadow_faces(shop: Shop) -> list[tuple[str, float]]:
    return [(outcome, value) for _, _, outcome, value in shop.summary.of(metrics.CANARY_SHADOW_FACES)]


async def test_a_new_version_gets_its_share_of_the_requests_that_name_none_and_no_other(tmp_path: Path) -> None:
    shop = await _tried(tmp_path)
    assert shop.aliases == {"stable": 1, "canary": 2}
    assert await ask(shop, 8) == [1, 1, 1, 2, 1, 1, 1, 2]
    for spec, version in (
        (ModelSpec(version=1), 1),
        (ModelSpec(alias="stable"), 1),
        (ModelSpec(alias="canary"), 2),
    ):
        assert await ask(shop, 8, spec) == [version] * 8
    assert shop.summary.of(metrics.CANARY_SHARE) == [("fer-nano", 0.25)]
    report = shop.manager.model("").canary
    assert report is not None
    assert (report.version, report.stable_version, report.canary.request_count) == (2, 1, 2)


async def test_a_model_may_be_tried_otherwise_than_the_rest(tmp_path: Path) -> None:
    shop = await _tried(tmp_path, by_model={"fer-nano": replace(RULES, share=0.5, auto=False)})
    assert await ask(shop, 4) == [1, 2, 1, 2]
    assert shop.summary.of(metrics.CANARY_SHARE) == [("fer-nano", 0.5)]
    await ask(shop, 60)
    await shop.look()
    assert shop.aliases == {"stable": 1, "canary": 2}, "its verdicts are only reported"


async def test_a_model_that_is_left_out_gets_new_versions_at_once_even_with_an_alias_canary(
    tmp_path: Path,
) -> None:
    shop = await _tried(tmp_path, by_model={"fer-nano": replace(RULES, share=0.0)})
    assert (shop.serving(), shop.aliases, shop.manager.model("").canary) == (2, {}, None)
    await shop.manager.set_alias("fer-nano", "stable", 2)
    publish_fake(tmp_path, version=3)
    await shop.manager.load("fer-nano", 3)
    await shop.manager.set_alias("fer-nano", "canary", 3)
    assert await ask(shop, 8) == [2] * 8


async def test_without_canaries_a_new_version_is_active_at_once_and_has_no_alias(tmp_path: Path) -> None:
    shop = Shop(tmp_path, CountingLoader())
    for version in (1, 2):
        publish_fake(tmp_path, version=version)
        await shop.manager.refresh()
    await shop.manager.judge_canaries()
    assert shop.serving() == 2
    assert (shop.manager.model("").aliases, shop.manager.model("").canary) == ({}, None)


async def test_a_good_canary_is_promoted_when_its_window_is_over_and_the_old_version_goes(tmp_path: Path) -> None:
    shop = await _tried(tmp_path)
    await ask(shop, 100)
    await shop.look(30)
    assert shop.summary.labels_of(metrics.CANARY_VERDICTS) == [("fer-nano", "wait", "WINDOW_OPEN")]
    await shop.look(31)
    assert shop.summary.labels_of(metrics.CANARY_VERDICTS)[-1] == ("fer-nano", "promote", "WITHIN_LIMITS")
    assert shop.aliases == {"stable": 2}
    assert shop.saved[-1] == {"fer-nano": {"stable": 2}}
    await shop.manager.refresh()
    await settle()
    assert shop.states() == {2: ServableState.READY, 1: ServableState.UNLOADED}
    assert await ask(shop, 4) == [2] * 4
    assert shop.summary.of(metrics.CANARY_SHARE)[-1] == ("fer-nano", 0.0)


@pytest.mark.parametrize("fault", ["CONFIDENCE", "LATENCY", "ERRORS"])
async def test_a_bad_canary_is_rolled_back_within_its_window_and_not_tried_again(
    tmp_path: Path, fault: str
) -> None:
    shop = await _tried(tmp_path)
    if fault == "CONFIDENCE":
        shop.scorers[1].confidence = 0.3
    if fault == "ERRORS":
        shop.scorers[1].row_failures = {0: InferenceFailedError()}
    await ask(shop, 100)
    for version, batch_s in ((1, 0.010), (2, 0.030 if fault == "LATENCY" else 0.010)):
        time_batches(shop.canaries, version, batch_s)
    await shop.look(10)
    assert shop.aliases == {"stable": 1}
    rejection = shop.rejection(2)
    assert rejection is not None
    assert rejection.reason == ROLLED_BACK
    assert fault in rejection.message
    assert shop.scorers[1].closed
    await shop.manager.refresh()
    await settle()
    assert shop.states() == {2: ServableState.FAILED, 1: ServableState.READY}
    assert await ask(shop, 8) == [1] * 8
    with pytest.raises(VersionNotFoundError):
        shop.manager.acquire(ModelSpec(version=2))


async def test_a_version_that_was_rolled_back_stays_out_after_a_restart_until_its_manifest_changes(
    tmp_path: Path,
) -> None:
    shop = await _tried(tmp_path)
    await shop.manager.roll_back("")
    assert shop.saved[-1] == {"fer-nano": {"stable": 1}}
    again = CanaryShop(tmp_path, rejected=shop.rejected, aliases=Aliases({}, shop.saved[-1]))
    await again.manager.refresh()
    assert again.states() == {2: ServableState.FAILED, 1: ServableState.READY}
    assert again.rejection(2).reason == ROLLED_BACK
    manifest = tmp_path / "fer-nano" / "2" / "assets.extra" / "manifest.json"
    os.utime(manifest, (manifest.stat().st_mtime + 5, manifest.stat().st_mtime + 5))
    await again.manager.refresh()
    assert again.states()[2] is ServableState.FAILED  # the same manifest with another time
    manifest.write_text(manifest.read_text() + "\n")
    await again.manager.refresh()
    assert again.aliases == {"stable": 1, "canary": 2}
    assert again.rejected == {}


async def test_what_fails_on_the_canary_is_answered_by_the_stable_version(tmp_path: Path) -> None:
    shop = await _tried(tmp_path, replace(RULES, share=0.5))
    for failure in ("stall", "row"):
        shop.scorers[1].reject_with = EngineStalledError(1.0) if failure == "stall" else None
        shop.scorers[1].row_failures = {0: InferenceFailedError()} if failure == "row" else {}
        assert await ask(shop, 2) == [1, 1]
    assert shop.summary.labels_of(metrics.CANARY_REQUESTS).count(("fer-nano", "2", "failed")) == 2
    shop.scorers[1].reject_with = EngineStalledError(1.0)
    with pytest.raises(EngineStalledError):  # who names it gets what it gives
        await ask(shop, 1, ModelSpec(version=2))
    assert not shop.manager._routes._live["fer-nano"][2]._lease_count


async def test_an_engine_that_hangs_is_asked_no_more_and_rolled_back(tmp_path: Path) -> None:
    shop = await _tried(tmp_path)
    shop.scorers[1].healthy = False
    assert await ask(shop, 8) == [1] * 8
    await shop.look(1)
    assert "ENGINE_STALLED" in shop.rejection(2).message


async def test_with_auto_off_verdicts_are_reported_once_and_an_operator_decides(tmp_path: Path) -> None:
    shop = await _tried(tmp_path, replace(RULES, auto=False))
    await ask(shop, 100)
    for _ in range(3):
        await shop.look()
    assert shop.summary.labels_of(metrics.CANARY_VERDICTS) == [("fer-nano", "promote", "WITHIN_LIMITS")]
    assert shop.aliases == {"stable": 1, "canary": 2}
    await shop.manager.promote("", 2)
    await shop.manager.promote("", 2)
    assert shop.aliases == {"stable": 2}
    with pytest.raises(NoCanaryError):
        await shop.manager.promote("")
    with pytest.raises(NoCanaryError, match="Version 7"):
        await shop.manager.promote("", 7)


async def test_a_still_newer_version_takes_the_canarys_place(tmp_path: Path) -> None:
    shop = await _tried(tmp_path)
    publish_fake(tmp_path, version=3)
    await shop.manager.refresh()
    await settle()
    assert shop.aliases == {"stable": 1, "canary": 3}
    assert shop.states()[2] is ServableState.UNLOADED


async def test_without_a_canary_a_rollback_goes_back_to_the_version_before(tmp_path: Path) -> None:
    shop = Shop(tmp_path, CountingLoader())
    publish_fake(tmp_path, version=2)
    await shop.manager.refresh()
    with pytest.raises(NoOlderVersionError):
        await shop.manager.roll_back("")
    publish_fake(tmp_path, version=1)
    await shop.manager.roll_back("", 2)
    await shop.manager.roll_back("", 2)
    await shop.manager.refresh()
    await settle()
    assert shop.serving() == 1
    assert shop.states() == {2: ServableState.FAILED, 1: ServableState.READY}
    with pytest.raises(NoCanaryError):
        await shop.manager.roll_back("", 9)
    await shop.manager.load("", 2)  # an operator may have it back
    assert shop.states()[2] is ServableState.READY


async def test_aliases_of_the_settings_are_not_moved(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    shop = Shop(tmp_path, CountingLoader(), aliases=Aliases({"fer-nano": {"stable": 1}}))
    await shop.manager.refresh()
    for move in (shop.manager.promote, shop.manager.roll_back):
        with pytest.raises(AliasFixedError):
            await move("")


async def test_a_shadow_answers_nobody_and_is_compared_behind_the_answers(tmp_path: Path) -> None:
    shop = await _tried(tmp_path, SHADOW)
    shop.scorers[1].shift = 1
    for _ in range(10):
        assert await ask(shop) == [1]
        await settle()
    assert shop.scorers[1].priorities == [Priority.BULK] * 10
    assert _shadow_faces(shop) == [("agreed", 0), ("differed", 3)] * 10
    await shop.look(1)
    report = shop.manager.model("").canary
    assert report is not None
    assert report.shadow is not None
    assert (report.shadow.face_count, report.shadow.agreed_count) == (30, 0)
    assert report.shadow.largest_difference == pytest.approx(0.65)
    assert report.verdict.reason == "WINDOW_OPEN"
    differences = shop.summary.of(metrics.CANARY_SHADOW_DIFFERENCE)
    assert differences[-1] == ("fer-nano", "2", "largest", pytest.approx(0.65))


async def test_a_shadow_that_sees_other_classes_is_rolled_back_where_agreement_is_asked_for(
    tmp_path: Path,
) -> None:
    shop = await _tried(tmp_path, replace(SHADOW, min_agreement=0.8))
    shop.scorers[1].shift = 1
    for _ in range(20):
        await ask(shop)
        await settle()
    await shop.look(1)
    assert "AGREEMENT" in shop.rejection(2).message


async def test_a_shadow_that_is_busy_or_fails_holds_nobody_up(tmp_path: Path) -> None:
    shop = await _tried(tmp_path, SHADOW)
    await ask(shop, 3)  # all before the shadow runs
    await settle()
    assert _shadow_faces(shop) == [("dropped", 3), ("dropped", 3), ("agreed", 3), ("differed", 0)]
    shop.scorers[1].reject_with = RuntimeError("broken")
    assert await ask(shop) == [1]
    await settle()
    assert shop.summary.labels_of(metrics.CANARY_REQUESTS)[-1] == ("fer-nano", "2", "failed")
