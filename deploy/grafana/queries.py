"""Builds the queries of the dashboard.

Names and labels of metrics are those of server/src/ferserve_server/domain/metrics.py; tests hold both.
"""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Final

STAGES: Final = {
    "request": "request_seconds_bucket",
    "queue": 'queue_seconds_bucket{model=~"$model"}',
    "decode": "decode_seconds_bucket",
    "detect": "detect_seconds_bucket",
    "inference": 'inference_seconds_bucket{model=~"$model"}',
    "stream frame": "stream_frame_age_seconds_bucket",
}
"""Histograms of the stages of a request."""


def rate(metric: str, by: str = "") -> str:
    """Returns the summed rate of a counter, `metric` without its prefix, with or without a selector."""
    grouping = f"sum by ({by})" if by else "sum"
    return f"{grouping} (rate(ferserve_{metric}[$__rate_interval]))"


def model_rate(metric: str, by: str = "") -> str:
    """Returns the summed rate of a counter that has the label `model`."""
    return rate(f'{metric}{{model=~"$model"}}', by)


def quantile(share: float, metric: str, by: str = "") -> str:
    """Returns a quantile of a histogram, named with `_bucket`."""
    return f"histogram_quantile({share}, {rate(metric, f'{by}, le' if by else 'le')})"
