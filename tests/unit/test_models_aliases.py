"""Tests aliases: their names, their precedence, and the routing of requests without one."""

from __future__ import annotations

import pytest

from ferserve_server.domain.names import is_alias
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.aliases import Aliases, parse_aliases, unpinned_version


@pytest.mark.parametrize("text", ["stable", "canary", "v2", "2024-05.a", "_x", "A" * 64])
def test_these_are_aliases(text: str) -> None:
    assert is_alias(text)


@pytest.mark.parametrize("text", ["", "3", "-1", "1.5", "..", "../x", "a b", "a:b", "a=b", "A" * 65, "ä", "a\n"])
def test_these_are_none(text: str) -> None:
    assert not is_alias(text)


def test_lines_become_a_table() -> None:
    lines = ["fer-nano:stable=3", " fer-nano : canary = 4 ", "wide:stable=1"]
    assert parse_aliases(lines) == {"fer-nano": {"stable": 3, "canary": 4}, "wide": {"stable": 1}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stable=3", "not MODEL:NAME=VERSION"),
        ("m:stable", "not MODEL:NAME=VERSION"),
        ("m:stable=0", "not MODEL:NAME=VERSION"),
        ("m:stable=x", "not MODEL:NAME=VERSION"),
        ("../m:stable=1", "not MODEL:NAME=VERSION"),
        ("m:7=1", "with a letter"),
        ("m:=1", "with a letter"),
    ],
)
def test_a_line_that_is_no_alias_is_rejected(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_aliases([line])


def test_an_alias_that_is_set_twice_is_rejected() -> None:
    with pytest.raises(ValueError, match="set twice"):
        parse_aliases(["m:stable=1", "m:stable=2"])


def test_the_settings_win_over_what_was_set_at_run_time() -> None:
    aliases = Aliases(fixed={"m": {"stable": 1}}, chosen={"m": {"stable": 2, "canary": 3}})
    assert aliases.of("m") == {"canary": 3, "stable": 1}
    assert aliases.of("other") == {}
    assert aliases.named() == {ServableId("m", 1), ServableId("m", 3)}
    assert aliases.is_fixed("m", "stable")
    assert not aliases.is_fixed("m", "canary")


def test_changing_one_leaves_the_value_it_was_made_of_and_its_neighbours_alone() -> None:
    before = Aliases(chosen={"m": {"a": 1, "b": 2}, "n": {"a": 5}})
    assert before.changed("m", "a", 3).of("m") == {"a": 3, "b": 2}
    assert before.changed("m", "a", None).of("m") == {"b": 2}
    assert before.changed("n", "a", None).models() == {"m"}
    assert before.of("m") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("ready", "stable", "expected"),
    [
        pytest.param([], None, None, id="nothing ready"),
        pytest.param([9, 10], None, 10, id="without the alias the newest"),
        pytest.param([1, 2, 3], 2, 2, id="the stable one"),
        pytest.param([1, 3], 2, 1, id="the stable one not ready: the newest older one stands in"),
        pytest.param([3], 2, None, id="but never a newer one"),
    ],
)
def test_the_version_of_requests_that_name_none(
    ready: list[int], stable: int | None, expected: int | None
) -> None:
    assert unpinned_version(ready, stable) == expected
