"""Tests laws of the version policies, over any repository, any history of it and any policy."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.servable import ServableId
from ferserve_server.models.version_policy import All, Latest, Plan, Policies, Specific, parse_policies, plan

SERVABLES = st.builds(ServableId, st.sampled_from(["a", "b"]), st.integers(1, 5))
ON_DISK = st.dictionaries(SERVABLES, st.integers(0, 2).map(float))
POLICY = st.one_of(
    st.builds(Latest, st.integers(1, 3)),
    st.builds(Specific, st.sets(st.integers(1, 5), min_size=1).map(lambda versions: tuple(sorted(versions)))),
    st.just(All()),
)


@dataclass
class Situation:
    """What a plan is made of."""

    on_disk: dict[ServableId, float]
    ready: list[ServableId]
    failed: dict[ServableId, float]
    policies: Policies
    held: set[ServableId]
    excluded: set[ServableId]

    def plan(self) -> Plan:
        return plan(self.on_disk, self.ready, self.failed, self.policies, held=self.held, excluded=self.excluded)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    ready = draw(st.lists(SERVABLES, unique=True))
    failed = {each: time for each, time in draw(ON_DISK).items() if each not in ready}
    policies = Policies(draw(POLICY), draw(st.dictionaries(st.sampled_from(["a", "b"]), POLICY)))
    return Situation(draw(ON_DISK), ready, failed, policies, draw(st.sets(SERVABLES)), draw(st.sets(SERVABLES)))


def _models(servables) -> set[str]:
    return {each.name for each in servables}


@given(situations())
def test_a_model_with_a_version_active_never_loses_the_last_one(situation: Situation) -> None:
    left = set(situation.ready) - set(situation.plan().unload)
    assert _models(left) == _models(situation.ready)


@given(situations())
def test_only_what_is_on_disk_is_loaded_and_only_what_is_ready_is_let_go(situation: Situation) -> None:
    decided = situation.plan()
    assert set(decided.load) <= set(situation.on_disk) - set(situation.ready)
    assert set(decided.unload) <= set(situation.ready)
    assert len(set(decided.load)) == len(decided.load)
    assert len(set(decided.unload)) == len(decided.unload)


@given(situations())
def test_what_failed_is_not_tried_again_while_its_manifest_is_the_same(situation: Situation) -> None:
    decided = situation.plan()
    assert all(situation.failed.get(each) != situation.on_disk[each] for each in decided.load)


@given(situations())
def test_what_is_held_is_never_let_go_and_what_is_shunned_never_loaded_unless_held(situation: Situation) -> None:
    decided = situation.plan()
    assert not situation.held.intersection(decided.unload)
    assert situation.excluded.intersection(decided.load) <= situation.held


@given(situations())
def test_what_is_missing_is_wanted_by_name_and_neither_there_nor_ready(situation: Situation) -> None:
    missing = set(situation.plan().missing)
    assert not missing & ({*situation.on_disk} | {*situation.ready})
    for each in missing - situation.held:
        policy = situation.policies.of(each.name)
        assert isinstance(policy, Specific)
        assert each.version in policy.versions


@given(situations(), st.sets(SERVABLES))
def test_carrying_plans_out_comes_to_rest_with_what_is_wanted(
    situation: Situation, broken: set[ServableId]
) -> None:
    """Loading a version in `broken` fails; the shell plans again after every step, as the manager does."""
    decided = situation.plan()
    for _ in range(len(situation.on_disk) + 1):
        if not decided.load:
            break
        first = decided.load[0]
        if first in broken:
            situation.failed[first] = situation.on_disk[first]
        else:
            situation.ready.append(first)
        decided = situation.plan()
    assert decided.load == ()
    situation.ready = [each for each in situation.ready if each not in decided.unload]
    rest = situation.plan()
    assert (rest.load, rest.unload) == ((), ())
    for model in _models(situation.ready):
        _check_rest(situation, model)


def _check_rest(situation: Situation, model: str) -> None:
    active = {each for each in situation.ready if each.name == model}
    usable = [
        each
        for each in sorted(situation.on_disk, key=lambda each: -each.version)
        if each.name == model
        and (each in situation.ready or situation.failed.get(each) != situation.on_disk[each])
    ]
    allowed = [each for each in usable if each not in situation.excluded]
    policy = situation.policies.of(model)
    if isinstance(policy, Latest):
        wanted = allowed[: policy.count]
    elif isinstance(policy, Specific):
        wanted = [each for each in allowed if each.version in policy.versions]
    else:
        wanted = allowed
    assert {*wanted, *situation.held.intersection(usable)} <= active
    most = policy.count if isinstance(policy, Latest) else max(1, len(wanted))
    assert len(active) >= 1
    assert len(active - situation.held) <= most


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", fullmatch=True), POLICY))
def test_policies_survive_being_reported_and_read(policies: dict[str, Latest | Specific | All]) -> None:
    assert parse_policies([f"{model}={policy}" for model, policy in policies.items()]) == policies
