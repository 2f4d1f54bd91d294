"""Which versions are loaded and which are let go, as a table."""

from __future__ import annotations

import pytest

from ferserve_server.domain.servable import ServableId
from ferserve_server.repository.version_policy import (
    Latest,
    Plan,
    Policies,
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
        pytest.param([1, 2], [1], [2], 1, [], [], id="a failed newer version leaves the old one in force"),
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
