"""Laws of the version policy, over any repository and any history of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.servable import ServableId
from ferserve_server.repository.version_policy import Plan, plan

SERVABLES = st.builds(ServableId, st.sampled_from(["a", "b"]), st.integers(1, 5))
ON_DISK = st.dictionaries(SERVABLES, st.integers(0, 2).map(float))
KEEP = st.integers(1, 3)


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict, list, dict, int]:
    ready = draw(st.lists(SERVABLES, unique=True))
    failed = {each: time for each, time in draw(ON_DISK).items() if each not in ready}
    return draw(ON_DISK), ready, failed, draw(KEEP)


def _models(servables) -> set[str]:
    return {each.name for each in servables}


@given(situations())
def test_a_model_with_a_version_in_force_never_loses_the_last_one(situation) -> None:
    on_disk, ready, failed, keep = situation
    left = set(ready) - set(plan(on_disk, ready, failed, keep).unload)
    assert _models(left) == _models(ready)


@given(situations())
def test_only_what_is_on_disk_is_loaded_and_only_what_is_ready_is_let_go(situation) -> None:
    on_disk, ready, failed, keep = situation
    decided = plan(on_disk, ready, failed, keep)
    assert set(decided.load) <= set(on_disk) - set(ready)
    assert set(decided.unload) <= set(ready)
    assert len(set(decided.load)) == len(decided.load)
    assert len(set(decided.unload)) == len(decided.unload)


@given(situations())
def test_what_failed_is_not_tried_again_while_its_manifest_is_the_same(situation) -> None:
    on_disk, ready, failed, keep = situation
    assert all(failed.get(each) != on_disk[each] for each in plan(on_disk, ready, failed, keep).load)


@given(situations(), st.sets(SERVABLES))
def test_carrying_plans_out_comes_to_rest_with_no_more_than_is_to_be_kept(
    situation, broken: set[ServableId]
) -> None:
    """Loading a version in `broken` fails; the shell plans again after every step, as the manager does."""
    on_disk, ready, failed, keep = situation
    ready, failed = list(ready), dict(failed)
    for _ in range(len(on_disk) + 1):
        decided = plan(on_disk, ready, failed, keep)
        if not decided.load:
            break
        first = decided.load[0]
        if first in broken:
            failed[first] = on_disk[first]
        else:
            ready.append(first)
    assert decided.load == ()
    ready = [each for each in ready if each not in decided.unload]
    assert plan(on_disk, ready, failed, keep) == Plan()
    for model in _models(ready):
        in_force = [each for each in ready if each.name == model]
        assert 1 <= len(in_force) <= keep
        usable = [
            each for each in on_disk if each.name == model and (each in ready or failed.get(each) != on_disk[each])
        ]
        wanted = sorted(usable, key=lambda each: -each.version)[:keep]
        assert set(wanted) <= set(in_force)
