"""Tests the file that caches measurements."""

import json

import pytest

from ferserve_server.models.tuning_cache import Measured, TuneCache

FOUND = Measured(1.5, {1: 0.002, 8: 0.004})


def test_what_was_written_is_read_by_the_next_server(tmp_path):
    TuneCache(tmp_path / "tune.json", "a machine").write("sum", FOUND)
    assert TuneCache(tmp_path / "tune.json", "a machine").read("sum") == FOUND


def test_figures_of_another_version_machine_or_setting_are_not_used(tmp_path):
    TuneCache(tmp_path / "tune.json", "a machine").write("sum", FOUND)
    assert TuneCache(tmp_path / "tune.json", "a machine").read("other sum") == Measured()
    assert TuneCache(tmp_path / "tune.json", "another machine").read("sum") == Measured()


def test_entries_of_others_are_kept(tmp_path):
    first, second = (TuneCache(tmp_path / "tune.json", name) for name in ("a", "b"))
    first.write("sum", FOUND)
    second.write("sum", Measured())
    assert first.read("sum") == FOUND


def test_without_a_file_nothing_is_kept():
    cache = TuneCache()
    cache.write("sum", FOUND)
    assert cache.read("sum") == Measured()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format_version": 2, "entries": {}}',
        '{"format_version": 1, "entries": {"sum; a": 3}}',
        '{"format_version": 1, "entries": {"sum; a": {"latency_ms": {"x": 1}}}}',
        '{"format_version": 1, "entries": {"sum; a": {"latency_ms": {"1": -1}}}}',
        '{"format_version": 1, "entries": {"sum; a": {"bfloat16_speedup": "fast"}}}',
    ],
)
def test_a_file_that_cannot_be_used_counts_as_none_and_is_written_again(tmp_path, text):
    (tmp_path / "tune.json").write_text(text)
    cache = TuneCache(tmp_path / "tune.json", "a")
    assert cache.read("sum") == Measured()
    cache.write("sum", FOUND)
    assert cache.read("sum") == FOUND


def test_a_file_that_cannot_be_written_harms_nothing(tmp_path):
    cache = TuneCache(tmp_path / "no such folder" / "tune.json", "a")
    cache.write("sum", FOUND)
    assert cache.read("sum") == Measured()


def test_the_oldest_entries_go(tmp_path):
    cache = TuneCache(tmp_path / "tune.json", "a")
    for number in range(260):
        cache.write(str(number), FOUND)
    assert cache.read("3") == Measured()
    assert cache.read("4") == FOUND
    assert len(json.loads((tmp_path / "tune.json").read_text())["entries"]) == 256
