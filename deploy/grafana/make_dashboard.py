"""Writes the dashboard (make dashboard): expands the panels of *_rows.py to Grafana's thousands of lines of JSON.

python deploy/grafana/make_dashboard.py [FILE]      default: dashboards/ferserve.json beside this file
"""  # noqa: INP001 - a script

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from inference_rows import batching, predictions
from panels import BLUE, RED, SOURCE, Panel
from process_rows import models_and_process
from traffic_rows import at_a_glance, latency, traffic

PATH: Final = Path(__file__).parent / "dashboards" / "ferserve.json"


def _placed(rows: dict[str, list[Panel]]) -> list[Panel]:
    """Puts the panels of each row from left to right, breaking lines at 24 columns, and numbers them."""
    placed: list[Panel] = []
    top = 0
    for title, panels in rows.items():
        placed.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            }
        )
        top += 1
        left = height = 0
        for panel in panels:
            size = panel["gridPos"]
            if left + size["w"] > 24:
                left, top = 0, top + height
            placed.append(panel | {"gridPos": {"x": left, "y": top} | size})
            left, height = left + size["w"], size["h"]
        top += height
    return [panel | {"id": number} for number, panel in enumerate(placed, 1)]


def _annotation(name: str, expression: str, title: str, text: str, colour: str) -> Panel:
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "expr": expression,
        "iconColor": colour,
        "step": "30s",
        "titleFormat": title,
        "textFormat": text,
    }


def make_dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana reads it."""
    rows = {
        "At a glance": at_a_glance(),
        "Traffic": traffic(),
        "Latency": latency(),
        "Batching": batching(),
        "Predictions": predictions(),
        "Models and process": models_and_process(),
    }
    ready = 'ferserve_servable_state{state="ready"}'
    annotations = [
        _annotation(
            "Alerts",
            'ALERTS{alertstate="firing", alertname=~"Ferserve.*"}',
            "{{alertname}}",
            "{{severity}} {{instance}} {{model}}",
            RED,
        ),
        _annotation(
            "New versions",
            f"{ready} == 1 unless {ready} offset 1m == 1",
            "{{model}}/{{version}} is ready",
            "",
            BLUE,
        ),
    ]
    variables = [
        {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "current": {}},
        {
            "name": "model",
            "label": "Model",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": "label_values(ferserve_servable_state, model)", "refId": "models"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]
    return {
        "uid": "ferserve",
        "title": "ferserve",
        "description": "Facial-expression inference: traffic, latency, batching, predictions, models.",
        "tags": ["ferserve"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": annotations},
        "templating": {"list": variables},
        "panels": _placed(rows),
    }


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    path.write_text(json.dumps(make_dashboard(), indent=2) + "\n", encoding="utf-8")
