"""Builds the panel types of the dashboard as Grafana's JSON."""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Any, Final

Panel = dict[str, Any]
Query = tuple[str, str]
"""An expression and the legend of its series."""

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"


def _panel(
    kind: str, title: str, text: str, queries: list[Query], *, width: int, height: int, **fields: object
) -> Panel:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (expression, legend) in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "targets": targets,
        "gridPos": {"w": width, "h": height},
        **fields,
    }


def number(title: str, text: str, expression: str, unit: str, steps: tuple[tuple[float, str], ...] = ()) -> Panel:
    """Builds one big figure; `steps` are the lower bounds of its colours."""
    thresholds: list[Panel] = [{"value": None, "color": steps[0][1] if steps else BLUE}]
    thresholds += [{"value": value, "color": colour} for value, colour in steps[1:]]
    defaults: dict[str, Any] = {"unit": unit, "thresholds": {"mode": "absolute", "steps": thresholds}}
    if unit == "bool_yes_no":
        defaults |= {"mappings": [_mapping({0: ("NO", RED), 1: ("yes", GREEN)})], "unit": "none"}
    return _panel(
        "stat",
        title,
        text,
        [(expression, "")],
        width=3,
        height=4,
        fieldConfig={"defaults": defaults, "overrides": []},
        options={
            "colorMode": "value",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def lines(
    title: str,
    text: str,
    queries: list[Query],
    unit: str,
    *,
    width: int = 8,
    stack: str = "none",
    colours: dict[str, str] | None = None,
) -> Panel:
    """Series over time; `stack` is none, normal or percent."""
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in (colours or {}).items()
    ]
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 10 if stack == "none" else 60,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": stack, "group": "A"},
    }
    return _panel(
        "timeseries",
        title,
        text,
        queries,
        width=width,
        height=8,
        fieldConfig={
            "defaults": {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom},
            "overrides": overrides,
        },
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def heatmap(title: str, text: str, metric: str, unit: str, *, width: int = 8) -> Panel:
    """Builds a heatmap of a histogram's buckets over time."""
    panel = _panel(
        "heatmap",
        title,
        text,
        [(f"sum by (le) (increase(ferserve_{metric}[$__rate_interval]))", "{{le}}")],
        width=width,
        height=8,
        fieldConfig={"defaults": {}, "overrides": []},
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Turbo", "scale": "exponential", "exponent": 0.5, "steps": 64},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "le"},
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": unit},
        },
    )
    panel["targets"][0]["format"] = "heatmap"
    return panel


def timeline(title: str, text: str, query: Query, texts: dict[int, tuple[str, str]], *, width: int) -> Panel:
    """Builds a timeline of states: `texts` are a name and a colour for each value."""
    return _panel(
        "state-timeline",
        title,
        text,
        [query],
        width=width,
        height=8,
        fieldConfig={
            "defaults": {"mappings": [_mapping(texts)], "custom": {"fillOpacity": 80, "lineWidth": 0}},
            "overrides": [],
        },
        options={"mergeValues": True, "showValue": "auto", "rowHeight": 0.8},
    )


def _mapping(texts: dict[int, tuple[str, str]]) -> Panel:
    return {
        "type": "value",
        "options": {str(value): {"text": text, "color": colour} for value, (text, colour) in texts.items()},
    }
