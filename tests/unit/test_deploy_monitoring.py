"""Tests that the alerts and the dashboard query metrics that the server exports."""

import json
import subprocess
import sys

import grpc
import pytest
import yaml

from ferserve_server.domain.servable import ServableState
from support.model_factory import LABELS
from support.monitoring import (
    DASHBOARD,
    PROMETHEUS_FOLDER,
    ROOT,
    TARGET_LABELS,
    Expression,
    annotation_expressions,
    dashboard_expressions,
    declared_samples,
    recorded_names,
    rule_expressions,
    rules,
)

EXPRESSIONS = [*rule_expressions(), *dashboard_expressions(), *annotation_expressions()]
ALERTS = [rule for rule in rules() if "alert" in rule]
PROMETHEUS_OWN = {"up", "ALERTS"}
RECORDED_LABELS = frozenset({"job", "model", "version", "emotion"})
KNOWN_VALUES = {
    "code": {code.name for code in grpc.StatusCode},
    "state": {state.value for state in ServableState},
    "outcome": {"result", "dropped", "failed"},
    "emotion": set(LABELS),
}


def _labels_of(name: str) -> frozenset[str]:
    if name in recorded_names():
        return RECORDED_LABELS
    if name in PROMETHEUS_OWN:
        return TARGET_LABELS | {"alertname", "alertstate", "severity"}
    return declared_samples()[name] | TARGET_LABELS


each_expression = pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda each: each.source)


@each_expression
def test_every_metric_that_is_asked_for_is_declared(expression: Expression):
    names = {name for name, _ in expression.selectors()}
    assert names
    assert names <= declared_samples().keys() | recorded_names() | PROMETHEUS_OWN


@each_expression
def test_every_label_that_is_selected_belongs_to_its_metric(expression: Expression):
    for name, labels in expression.selectors():
        assert labels.keys() <= _labels_of(name), name


@each_expression
def test_every_label_that_is_grouped_by_belongs_to_a_metric_of_the_expression(expression: Expression):
    known = frozenset().union(*(_labels_of(name) for name, _ in expression.selectors()))
    assert expression.groupings("by", "on", "group_left", "group_right") <= known


@each_expression
def test_every_label_that_is_shown_is_still_there_after_the_grouping(expression: Expression):
    kept = expression.groupings("by") or frozenset().union(
        *(_labels_of(name) for name, _ in expression.selectors())
    )
    assert expression.shown_labels <= kept


@each_expression
def test_every_value_that_is_selected_can_occur(expression: Expression):
    for _, labels in expression.selectors():
        for label in labels.keys() & KNOWN_VALUES.keys():
            assert set(labels[label].split("|")) <= KNOWN_VALUES[label]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert all(text.strip() for text in rule["annotations"].values())


def test_the_names_of_alerts_and_recorded_series_are_unique():
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert len(names) == len(set(names))


def test_every_alert_fires_in_a_unit_test():
    texts = [path.read_text() for path in PROMETHEUS_FOLDER.glob("*_test.yml")]
    expected = [
        sample["labels"]
        for text in texts
        for test in yaml.safe_load(text)["tests"]
        for case in test.get("promql_expr_test", [])
        for sample in case["exp_samples"]
    ]
    silent = [rule["alert"] for rule in ALERTS if not any(f'"{rule["alert"]}"' in each for each in expected)]
    assert not silent


def test_the_dashboard_is_what_its_tables_make(tmp_path):
    made = tmp_path / "made.json"
    subprocess.run([sys.executable, ROOT / "deploy/grafana/make_dashboard.py", made], check=True, timeout=60)
    assert made.read_text() == DASHBOARD.read_text(), "run 'make dashboard'"


def test_the_panels_of_the_dashboard_lie_side_by_side():
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_says_what_it_shows():
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert all(panel["description"] for panel in panels)


def test_every_stage_of_the_latency_is_on_the_dashboard():
    asked = {name for each in dashboard_expressions() for name, _ in each.selectors()}
    durations = {name for name in declared_samples() if name.endswith("_seconds_bucket")}
    assert durations <= asked


def test_nothing_that_the_server_counts_is_left_off_the_dashboard():
    asked = {name for each in dashboard_expressions() for name, _ in each.selectors()}
    samples = {name.removesuffix(suffix) for name in asked for suffix in ("", "_bucket", "_count", "_sum")}
    own = {name for name in declared_samples() if name.startswith("ferserve_")}
    derived = ("_created", "_bucket", "_count", "_sum")
    exported = {name for name in own if not name.endswith(derived)} - {
        # Families of counters, whose samples end in _total.
        name.removesuffix("_total")
        for name in own
        if name.endswith("_total")
    }
    assert exported <= samples
