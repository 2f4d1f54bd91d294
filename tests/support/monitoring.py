"""Reads the queries of the alerts and the dashboard, and the metrics that the server declares."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ferserve_server.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS_FOLDER = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "ferserve.json"

TARGET_LABELS = frozenset({"job", "instance"})
"""Labels that Prometheus adds to every series of a target."""

_GROUPING = re.compile(r"\b(by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)(?!\w)\s*(?:\{([^}]*)\})?(?!\s*\()")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_WORDS = frozenset({"and", "or", "unless", "offset", "bool"})


@dataclass(frozen=True, slots=True)
class Expression:
    """A PromQL expression: who asks it, and the labels that its legend or its texts show."""

    source: str
    text: str
    shown_labels: frozenset[str] = frozenset()

    def runnable(self) -> str:
        """The expression with Grafana's variables filled in."""
        return self.text.replace("$__rate_interval", "1m").replace("$model", ".*")

    def selectors(self) -> list[tuple[str, dict[str, str]]]:
        """The metrics that it reads, each with the labels and values that it selects."""
        bare = _GROUPING.sub(" ", self.runnable())
        found = [(match[1], dict(_MATCHER.findall(match[2] or ""))) for match in _SELECTOR.finditer(bare)]
        return [(name, labels) for name, labels in found if name not in _WORDS]

    def groupings(self, *words: str) -> set[str]:
        """The labels in its lists after these words: `by`, `on`, ..."""
        lists = (labels for word, labels in _GROUPING.findall(self.runnable()) if word in words)
        return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}


def rules() -> list[dict[str, Any]]:
    """The rules of alerts.yml: those with `alert` and those with `record`."""
    groups = yaml.safe_load((PROMETHEUS_FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rule_expressions() -> list[Expression]:
    """The expressions of the alerts and of the recorded series."""
    return [
        Expression(
            rule.get("alert") or rule["record"],
            rule["expr"],
            frozenset(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {})))),
        )
        for rule in rules()
    ]


def recorded_names() -> set[str]:
    """The names of the recorded series."""
    return {rule["record"] for rule in rules() if "record" in rule}


def dashboard_expressions() -> list[Expression]:
    """The expressions of the dashboard's panels."""
    return [
        Expression(panel["title"], target["expr"], _shown(target["legendFormat"]))
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def annotation_expressions() -> list[Expression]:
    """The expressions of the dashboard's annotations."""
    annotations = json.loads(DASHBOARD.read_text())["annotations"]["list"]
    return [Expression(f"annotation {each['name']}", each["expr"]) for each in annotations]


@cache
def declared_samples() -> dict[str, frozenset[str]]:
    """Every sample that the server can export, by name, with its own labels."""
    registry = Metrics().registry
    # Those without labels are there from the start, the process's among them.
    samples = {sample.name: frozenset[str]() for family in registry.collect() for sample in family.samples}
    for collector, names in registry._collector_to_names.items():
        samples |= dict.fromkeys(names, frozenset(getattr(collector, "_labelnames", ())))
    return {name: own | {"le"} if name.endswith("_bucket") else own for name, own in samples.items()}


def _shown(legend: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{\{(\w+)\}\}", legend))
