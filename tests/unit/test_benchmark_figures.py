"""Tests the benchmarks' arithmetic, and the tables made of their results."""

import json

import numpy as np
import pytest
from cycle_figures import cycle_figures
from null_server import null_rows
from performance_tables import DOCUMENT, RESULTS, filled
from restart_figures import Restart, restart_figures
from slope import slope_with_interval
from swap_figures import Answer, Swap, swap_figures, went_back

from ferserve_server.domain.servable import InputSpec, ModelDescription
from support.model_factory import LABELS

SWAP = Swap(version=2, published_s=10.0, ready_s=11.0, unloaded_s=12.0)


def answer(due_s, answered_s, *, version=1, kind="1 face", mixed=False, error="", sent_s=None):
    return Answer(kind, due_s, due_s if sent_s is None else sent_s, answered_s, version, mixed, error)


def test_latency_counts_from_when_a_call_was_due():
    assert answer(1.0, 3.0, sent_s=2.9).latency_ms == pytest.approx(2000)


def test_a_call_that_only_ends_or_only_begins_in_a_swap_belongs_to_it():
    before, into, out_of, around, after = (
        answer(8.0, 9.0),
        answer(9.0, 10.5),
        answer(11.9, 12.5),
        answer(9.0, 13.0),
        answer(12.1, 12.2),
    )

    figures = swap_figures([before, into, out_of, around, after], [SWAP])

    assert figures["latency"]["all"]["during"]["count"] == 3
    assert figures["latency"]["all"]["outside"]["count"] == 2


def test_the_ratio_is_that_of_the_99th_percentiles_of_each_kind_of_call():
    calls = [answer(10.5, 10.7), answer(20.0, 20.1), answer(20.0, 20.4, kind="32 faces")]

    latency = swap_figures(calls, [SWAP])["latency"]

    assert latency["1 face"]["p99_ratio"] == pytest.approx(2.0)
    assert "p99_ratio" not in latency["32 faces"]


def test_failures_are_counted_by_reason_and_have_no_latency():
    figures = swap_figures([answer(10, 11), answer(10, 90, version=0, error="QueueFullError")], [SWAP])

    assert (figures["requests"], figures["failed_requests"]) == (2, 1)
    assert figures["failures"] == {"QueueFullError": 1}
    assert figures["latency"]["all"]["during"]["max_ms"] == pytest.approx(1000)


def test_answers_with_scores_of_two_versions_are_counted():
    assert swap_figures([answer(1, 2, mixed=True), answer(1, 2)], [SWAP])["mixed_version_requests"] == 1


def test_an_older_version_after_a_newer_answer_went_back():
    assert went_back([answer(1, 2, version=2), answer(3, 4, version=1)]) == 1


def test_an_older_version_for_a_call_that_was_under_way_did_not_go_back():
    assert went_back([answer(1, 2, version=2), answer(1.5, 4, version=1)]) == 0


def test_a_straight_line_has_its_slope_and_no_doubt():
    assert slope_with_interval([3.0, 5.0, 7.0, 9.0]) == pytest.approx((2.0, 2.0, 2.0))


def test_the_interval_holds_the_true_slope_as_often_as_it_says():
    rng = np.random.default_rng(0)
    lines = 0.3 * np.arange(40) + rng.normal(0, 2, (1000, 40))

    intervals = [slope_with_interval(line.tolist()) for line in lines]

    assert 930 <= sum(low <= 0.3 <= high for _, low, high in intervals) <= 970


def test_a_slope_needs_three_points():
    with pytest.raises(ValueError, match="3 values"):
        slope_with_interval([1.0, 2.0])


def cycles(*mib):
    return [{"as_is_mib": each + 10, "trimmed_mib": each} for each in mib]


def test_growth_in_the_first_fifth_does_not_count():
    figures = cycle_figures(cycles(100, 300, *[500] * 8))

    assert figures["flat"]
    assert figures["cycles_counted"] == 8


def test_half_a_mebibyte_a_cycle_is_not_flat():
    assert not cycle_figures(cycles(*(100 + 0.5 * at for at in range(10))))["flat"]


def test_the_tables_in_the_document_are_those_of_the_results():
    assert filled(DOCUMENT.read_text()) == DOCUMENT.read_text()


def test_the_published_run_lost_nothing_and_mixed_nothing():
    found = json.loads((RESULTS / "swaps.json").read_text())

    assert found["swaps"] >= 20
    assert (found["failed_requests"], found["mixed_version_requests"], found["requests_that_went_back"]) == (
        0,
        0,
        0,
    )


def test_the_null_model_answers_as_many_columns_as_the_model_has() -> None:
    for extra in ("", "not_a_face"):
        description = ModelDescription(LABELS, InputSpec("faces", 48, 48), not_a_face_output=extra)
        rows = null_rows(description)
        assert rows.shape[1] == description.score_column_count
        assert np.allclose(rows[:, : len(LABELS)].sum(axis=1), 1.0)


def test_calls_of_a_restart_are_those_that_it_overlaps() -> None:
    restarts = [Restart(10.0, 12.0)]
    calls = [(8.0, 9.0), (9.5, 10.5), (11.0, 11.1), (11.9, 12.5), (12.1, 12.2)]
    answers = [Answer("1 face", due_s, due_s, answered_s, 1, False, "") for due_s, answered_s in calls]
    lost = Answer("1 face", 11.0, 11.0, 11.5, 0, False, "ServerDrainingError")
    figures = restart_figures([*answers, lost], restarts)
    assert (figures["failed_calls"], figures["failures"]) == (1, {"ServerDrainingError": 1})
    sides = figures["latency"]["1 face"]
    assert (sides["during"]["count"], sides["outside"]["count"]) == (3, 2)
    assert sides["outside"]["max_ms"] == 1000.0
