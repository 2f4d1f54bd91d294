"""Tests the catalog that a server without models has of its tier, and its reaction to changes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ferserve_server.domain.errors import (
    AliasNotFoundError,
    ModelNotFoundError,
    UnsupportedError,
    VersionNotFoundError,
)
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError, VersionChangedError
from ferserve_server.upstream.executor import UpstreamServable
from ferserve_server.upstream.models import follow_tier
from ferserve_server.workers.json_codec import read_error, write_error
from support.batching import faces
from support.fake_clock import settle
from support.fake_models import DESCRIPTION
from support.fake_tier import NET, FakeTier, net
from support.model_factory import LABELS
from support.tier_bench import ANY, TierBench, tier_bench

LONG_S = 3600.0


async def test_before_the_tier_is_there_everything_is_rejected_with_a_reason() -> None:
    made = TierBench(FakeTier())
    assert not made.models.default_ready
    assert made.models.models() == ()
    for reachable in (False, True):
        made.models.reached(reachable=reachable)
        with pytest.raises(UpstreamUnavailableError, match="Try again"):
            made.models.acquire(ANY)
        with pytest.raises(UpstreamUnavailableError):
            made.models.model("")


async def test_with_the_tier_lost_nothing_is_begun() -> None:
    async with tier_bench() as made:
        assert made.models.default_ready
        made.models.reached(reachable=False)
        assert not made.models.default_ready
        with pytest.raises(UpstreamUnavailableError):
            made.models.acquire(ANY)
        made.models.reached(reachable=True)
        assert (await made.score(faces(1)))[1] == 1


async def test_ready_means_that_the_default_model_answers() -> None:
    async with tier_bench(reported=(net(1, default=False),)) as made:
        assert not made.models.default_ready
        made.models.update_models((net(default=True), net(1, name="other", default=False)))
        assert not made.models.default_ready
        made.models.update_models((net(1, default=True),))
        assert made.models.default_ready


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (ModelSpec("nobody"), ModelNotFoundError),
        (ModelSpec(version=7), VersionNotFoundError),
        (ModelSpec(alias="canary"), AliasNotFoundError),
    ],
)
async def test_what_the_tier_does_not_have_is_rejected_here(spec: ModelSpec, kind: type[Exception]) -> None:
    async with tier_bench() as made:
        with pytest.raises(kind):
            made.models.acquire(spec)
        assert made.tier.calls == []


async def test_an_alias_is_resolved_by_the_tier() -> None:
    async with tier_bench(reported=(net(1, 2, aliases={"old": 1}),)) as made:
        await made.score(faces(1), ModelSpec(alias="old"))
        assert [spec for _, spec, *_ in made.tier.calls] == [ModelSpec(NET, alias="old")]


async def test_who_answered_is_reported_even_if_the_tier_has_not_reported_of_it() -> None:
    async with tier_bench(5) as made:
        made.tier.labels[5] = ("glum", "glad")
        with made.models.acquire(ANY) as lease:
            assert lease.description.labels == LABELS
            found = await lease.scorer.score(faces(2))
            assert (lease.id, lease.description.labels) == (ServableId(NET, 5), ("glum", "glad"))
        assert found.scores.shape == (2, 2)


async def test_only_so_many_unreported_versions_are_remembered() -> None:
    async with tier_bench(*range(2, 202)) as made:
        for _ in range(200):
            await made.score(faces(1))
        assert len(made.models._unreported) <= 64
        assert len(made.made) == 1


async def test_the_pictures_of_one_call_meet_one_version() -> None:
    async with tier_bench(2, 1, 1, 2) as made:
        with made.models.acquire(ANY) as lease:
            made.tier.held.clear()
            asked = []
            for _ in range(4):  # one after the other, so that each is a batch of its own
                asked.append(asyncio.create_task(lease.scorer.score(faces(4))))
                await settle()
            made.tier.held.set()
            found = await asyncio.gather(*asked)
            assert lease.id.version == 2
        assert {each.servable for each in found} == {ServableId(NET, 2)}
        assert sorted(spec.version or 0 for _, spec, *_ in made.tier.calls) == [0, 0, 0, 0, 2, 2]


async def test_a_call_whose_version_is_gone_half_way_is_rejected() -> None:
    async with tier_bench(2, 1) as made:
        with made.models.acquire(ANY) as lease:
            await lease.scorer.score(faces(1))
            made.tier.not_found = {2}
            with pytest.raises(VersionChangedError):
                await lease.scorer.score(faces(1))


async def test_the_same_error_from_a_tier_behind_the_tier_passes_through() -> None:
    rejection = read_error(write_error(VersionChangedError(ServableId(NET, 2))))
    async with tier_bench() as made:
        made.tier.rejections = [rejection]
        with pytest.raises(VersionChangedError) as caught:
            await made.score(faces(1))
        assert caught.value is rejection


async def test_a_batcher_goes_when_requests_lead_elsewhere_and_answers_what_it_has() -> None:
    async with tier_bench() as made:
        made.tier.held.clear()
        asked = asyncio.ensure_future(made.score(faces(1)))
        await settle()
        made.models.update_models((net(1, 2),))
        await settle()
        assert made.closed == []
        made.tier.held.set()
        found, version = await asked
        np.testing.assert_array_equal(found.scores.argmax(axis=1), [0])
        assert version == 1
        await made.score(faces(1))
        assert [key.servable.version for key in made.made] == [1, 2]
        while not made.closed:  # noqa: ASYNC110 - a thread waits for the runner's end
            await asyncio.sleep(0.001)
        assert made.closed == made.made[:1]


async def test_what_the_tier_has_is_counted_and_what_is_gone_is_forgotten() -> None:
    async with tier_bench(reported=(net(1, aliases={"stable": 1}),)) as made:
        changes = made.changes
        made.models.update_models((net(1, aliases={"stable": 1}),))
        assert made.changes == changes
        made.models.update_models((net(2),))
        assert made.observer.states == [
            (f"{NET}/1", "ready"),
            (f"{NET}/1", "unloaded"),
            (f"{NET}/2", "ready"),
        ]
        assert made.observer.routes == {NET: ({}, 2)}
        assert made.changes == changes + 1


async def test_changes_are_rejected_with_where_to_make_them() -> None:
    models = TierBench(FakeTier()).models
    changes = [
        models.refresh(),
        models.load(NET, 1),
        models.unload(NET, 1),
        models.set_alias(NET, "stable", 1),
        models.promote(NET),
        models.roll_back(NET),
    ]
    for change in changes:
        with pytest.raises(UnsupportedError, match="servers of the model tier"):
            await change


def test_a_version_elsewhere_cannot_be_run_here() -> None:
    servable = UpstreamServable(ServableId(NET, 1), DESCRIPTION, 2)
    with pytest.raises(UnsupportedError, match="model tier"):
        servable.predict(faces(1))
    with pytest.raises(UnsupportedError, match="model tier"):
        servable.with_precision(servable.precision)


async def test_a_tier_that_is_back_is_asked_at_once() -> None:
    made = TierBench(FakeTier())
    made.tier.reported = [
        UpstreamUnavailableError(),
        UpstreamUnavailableError(),
        ValueError("nonsense"),
        (net(2),),
    ]
    following = asyncio.ensure_future(follow_tier(made.tier, made.models, LONG_S))
    await settle()
    for _ in range(2):  # it rejects, and then tells nonsense
        made.tier.reach.put_nowait(True)
        await settle()
        assert not made.models.default_ready
        made.tier.reach.put_nowait(False)
        await settle()
    made.tier.reach.put_nowait(True)
    await settle()
    assert made.models.default_ready
    assert made.models.model("").serving_version == 2
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
