"""Tests the versions that a policy loads and unloads, as a table."""

from __future__ import annotations

import pytest

from ferserve_server.domain.servable import ServableId
from ferserve_server.models.version_policy import (
    All,
    Latest,
    Plan,
    Policies,
    Specific,
    VersionPolicy,
    parse_policies,
    plan,
)


def _ids(versions: list[int]) -> tuple[ServableId, ...]:
    return tuple(ServableId("m", version) for version in versions)


@pytest.mark.parametrize(
    ("on_disk", "ready", "failed", "keep", "load", "unload"),
    [
        pytest.param([], [], [], 1, [], [], id="nothing there, nothing to do"),
        pytest.param([1], [], [], 1, [1], [], id="the first version is loaded"),
        pytest.param([1, 3, 2], [], [], 1, [3], [], id="only the newest is loaded"),
        pytest.param([9, 10], [], [], 1, [10], [], id="newest by number, not by text"),
        pytest.param([1, 2, 3], [], [], 2, [3, 2], [], id="the two newest, newest first"),
        pytest.param([1], [1], [], 1, [], [], id="what is ready stays"),
        pytest.param([1, 2], [1], [], 1, [2], [], id="the old one stays while the new one loads"),
        pytest.param([1, 2], [1, 2], [], 1, [], [1], id="the old one goes when the new one is ready"),
        pytest.param([1, 2], [1], [2], 1, [], [], id="a failed newer version leaves the old one active"),
        pytest.param([1, 2], [], [2], 1, [1], [], id="a failed newest version makes the one before wanted"),
        pytest.param([1], [], [1], 1, [], [], id="what failed is not tried again"),
        pytest.param([], [1], [], 1, [], [], id="the last good version outlives its files"),
        pytest.param([2], [1], [2], 1, [], [], id="it outlives them also beside a failed one"),
        pytest.param([2], [1], [], 1, [2], [], id="gone from disk, it stays until another is ready"),
        pytest.param([2], [1, 2], [], 2, [], [1], id="gone from disk and another ready, it goes"),
        pytest.param([1], [1, 2], [], 2, [], [2], id="a rollback by deletion lets the newer one go"),
        pytest.param([1], [2], [], 1, [1], [], id="a rollback loads the older one first"),
        pytest.param([], [1, 2], [], 1, [], [1], id="of versions that are all gone the newest stay"),
        pytest.param([1, 2, 3], [1, 2], [], 2, [3], [], id="with two to keep, both stay while a third loads"),
        pytest.param([1, 2, 3], [1, 2, 3], [], 2, [], [1], id="with two to keep, the third newest goes"),
        pytest.param([1, 2, 3], [2, 3], [], 1, [], [2], id="older ones go when fewer are to be kept"),
    ],
)
def test_the_plan(
    on_disk: list[int], ready: list[int], failed: list[int], keep: int, load: list[int], unload: list[int]
) -> None:
    decided = plan(
        dict.fromkeys(_ids(on_disk), 5.0), _ids(ready), dict.fromkeys(_ids(failed), 5.0), Policies(Latest(keep))
    )
    assert decided == Plan(_ids(load), _ids(unload))


def test_a_failed_version_is_tried_again_when_its_manifest_changed() -> None:
    (version,) = _ids([1])
    assert plan({version: 6.0}, [], {version: 5.0}, Policies()).load == (version,)


def test_models_do_not_crowd_each_other_out() -> None:
    a, b = ServableId("a", 9), ServableId("b", 1)
    assert plan({a: 0.0, b: 0.0}, [b], {}, Policies()) == Plan(load=(a,))


@pytest.mark.parametrize(
    ("policy", "on_disk", "ready", "failed", "load", "unload"),
    [
        pytest.param(All(), [1, 2, 3], [], [], [3, 2, 1], [], id="all: every one, newest first"),
        pytest.param(All(), [1, 2, 3], [1, 3], [2], [], [], id="all: without the one that failed"),
        pytest.param(All(), [2], [1, 2], [], [], [1], id="all: what is gone from disk goes"),
        pytest.param(All(), [], [1, 2], [], [], [1], id="all: but the last good one stays"),
        pytest.param(Specific((1, 3)), [1, 2, 3], [], [], [3, 1], [], id="specific: these"),
        pytest.param(Specific((1,)), [1, 2], [1, 2], [], [], [2], id="specific: no newer one stays"),
        pytest.param(Specific((1,)), [1, 2], [2], [1], [], [], id="specific: the last good one stays"),
        pytest.param(Specific((1, 2)), [1, 2], [1], [2], [], [], id="specific: one failed, the other stays"),
    ],
)
def test_the_plan_of_other_policies(
    policy: VersionPolicy,
    on_disk: list[int],
    ready: list[int],
    failed: list[int],
    load: list[int],
    unload: list[int],
) -> None:
    times = dict.fromkeys(_ids(failed), 5.0)
    decided = plan(dict.fromkeys(_ids(on_disk), 5.0), _ids(ready), times, Policies(by_model={"m": policy}))
    assert (decided.load, decided.unload) == (_ids(load), _ids(unload))


@pytest.mark.parametrize(
    ("on_disk", "ready", "held", "excluded", "load", "unload"),
    [
        pytest.param([1, 2], [], [1], [], [1, 2], [], id="what is held is loaded, and first"),
        pytest.param([1, 2], [1, 2], [1], [], [], [], id="what is held stays beside the newest"),
        pytest.param([2], [1, 2], [1], [], [], [], id="what is held stays when its files are gone"),
        pytest.param([1, 2, 3], [1, 2], [1], [], [3], [], id="it does not take the place of the old one"),
        pytest.param([1, 2, 3], [1, 2, 3], [1], [], [], [2], id="which goes when the new one is ready"),
        pytest.param([1, 2], [1], [], [2], [], [], id="what was let go does not come back"),
        pytest.param([1, 2], [], [], [2], [1], [], id="the one before it takes its place"),
        pytest.param([1, 2], [1, 2], [], [2], [], [2], id="what is excluded goes"),
        pytest.param([1, 2], [2], [], [2], [1], [], id="but not before another one is ready"),
        pytest.param([2], [2], [], [2], [], [], id="the last good one stays"),
        pytest.param([1, 2], [], [2], [2], [2, 1], [], id="held wins over excluded"),
    ],
)
def test_the_plan_with_versions_that_are_held_or_shunned(
    on_disk: list[int], ready: list[int], held: list[int], excluded: list[int], load: list[int], unload: list[int]
) -> None:
    decided = plan(
        dict.fromkeys(_ids(on_disk), 5.0), _ids(ready), {}, Policies(), held=_ids(held), excluded=_ids(excluded)
    )
    assert (decided.load, decided.unload) == (_ids(load), _ids(unload))


def test_wanted_versions_that_are_not_there_are_reported() -> None:
    policies = Policies(by_model={"m": Specific((1, 7))})
    decided = plan({ServableId("m", 1): 0.0}, [], {}, policies, held=[ServableId("other", 4)])
    assert decided.missing == (ServableId("m", 7), ServableId("other", 4))
    assert plan({}, [ServableId("m", 7)], {}, policies).missing == (ServableId("m", 1),)


def test_policies_are_read_and_reported_alike() -> None:
    lines = ["a=latest:2", " b = specific: 3,1 ,3", "c-1.x=all"]
    policies = Policies(Latest(3), parse_policies(lines))
    summary = [str(policies.of(model)) for model in ("a", "b", "c-1.x", "other")]
    assert summary == ["latest:2", "specific:1,3", "all", "latest:3"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("latest:2", "not MODEL=POLICY"),
        ("../a=all", "not MODEL=POLICY"),
        ("=all", "not MODEL=POLICY"),
        ("a=", "use latest:N"),
        ("a=newest", "use latest:N"),
        ("a=all:1", "use latest:N"),
        ("a=latest", "use latest:N"),
        ("a=latest:0", "use latest:N"),
        ("a=latest:17", "from 1 to 16"),
        ("a=latest:1,2", "use latest:N"),
        ("a=specific:", "use latest:N"),
        ("a=specific:1,,2", "use latest:N"),
        ("a=specific:01", "use latest:N"),
        ("a=specific:" + ",".join(map(str, range(1, 18))), "at most 16"),
    ],
)
def test_a_policy_that_is_none_is_rejected_with_what_to_write(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_policies([line])


def test_a_model_with_two_policies_is_rejected() -> None:
    with pytest.raises(ValueError, match="two policies"):
        parse_policies(["a=all", "a=latest:1"])
