"""Defines the rows of the dashboard on calls: the overview, traffic, and latency."""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Final

from panels import GREEN, ORANGE, RED, Panel, heatmap, lines, number
from queries import STAGES, model_rate, quantile, rate

SERVER_FAULTS: Final = "INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE|DEADLINE_EXCEEDED"
"""Codes that are the server's fault, as in alerts.yml."""


def at_a_glance() -> list[Panel]:
    """Returns the figures to look at first."""
    good_when_low = ((0, GREEN), (0.02, ORANGE), (0.2, RED))
    return [
        number("Calls", "Calls and streams that ended, a second.", rate("requests_total"), "reqps"),
        number("Faces", "Faces that were classified, a second.", model_rate("faces_total"), "suffix: /s"),
        number(
            "Server's faults",
            "Share of calls that failed and were not the caller's mistake.",
            f'({rate(f"""requests_total{{code=~"{SERVER_FAULTS}"}}""")} or vector(0)) / {rate("requests_total")}',
            "percentunit",
            good_when_low,
        ),
        number(
            "p99 of unary calls",
            "Time from arrival to answer that 99 % of unary calls keep.",
            quantile(0.99, "request_seconds_bucket"),
            "s",
            ((0, GREEN), (0.2, ORANGE), (0.5, RED)),
        ),
        number(
            "Mean batch",
            "Faces in an executed batch, on average. It grows with load.",
            f"{model_rate('faces_total')} / {model_rate('batches_total')}",
            "suffix: faces",
        ),
        number(
            "Mean confidence",
            "Mean probability of the most probable class.",
            f"{model_rate('confidence_sum_total')} / {model_rate('faces_total')}",
            "percentunit",
        ),
        number(
            "Versions ready",
            "Model versions that answer, over all servers.",
            'sum(ferserve_servable_state{model=~"$model", state="ready"})',
            "none",
            ((0, RED), (1, GREEN)),
        ),
        number(
            "Engines answer",
            "Whether every engine answers.",
            'min(ferserve_engine_healthy{model=~"$model"})',
            "bool_yes_no",
        ),
    ]


def traffic() -> list[Panel]:
    """Builds the row of incoming and rejected traffic."""
    return [
        lines(
            "Requests",
            "Calls and streams that ended, by RPC and gRPC status code.",
            [(rate("requests_total", "method, code"), "{{method}} {{code}}")],
            "reqps",
            stack="normal",
        ),
        lines(
            "Open calls and streams",
            "Calls and streams that are open now.",
            [("sum by (method) (ferserve_requests_in_progress)", "{{method}}")],
            "none",
        ),
        lines(
            "Stream answers by outcome",
            "Every frame gets one answer: a result, dropped for a newer frame, or failed.",
            [(rate("stream_answers_total", "method, outcome"), "{{method}} {{outcome}}")],
            "suffix: /s",
            stack="normal",
        ),
        lines(
            "Rejections by reason",
            "Work that was not taken. QUEUE_FULL is overload; callers should wait as RetryInfo says.",
            [(rate("rejections_total", "reason"), "{{reason}}")],
            "suffix: /s",
            stack="normal",
        ),
        lines(
            "Frames dropped by reason",
            "Frames that were not analysed, since a newer one came or they were too old.",
            [(rate("stream_frames_dropped_total", "reason"), "{{reason}}")],
            "suffix: /s",
            stack="normal",
        ),
        lines(
            "Connections by port",
            "Open connections, and those that were rejected beyond a port's limits.",
            [
                ("sum by (port) (ferserve_connections)", "{{port}} open"),
                (rate("connections_rejected_total", "port"), "{{port}} rejected/s"),
            ],
            "none",
        ),
        lines(
            "Cancellations by stage",
            "Requests whose caller left. Those still queued are not executed.",
            [(rate("cancellations_total", "stage"), "{{stage}}")],
            "suffix: /s",
            stack="normal",
        ),
        lines(
            "Pictures that failed",
            "Pictures without an analysis, by reason, and executions that raised or hung.",
            [
                (rate("image_failures_total", "reason"), "picture: {{reason}}"),
                (model_rate("batch_failures_total", "model"), "batch of {{model}}"),
            ],
            "suffix: /s",
            stack="normal",
        ),
    ]


def latency() -> list[Panel]:
    """Builds the row of latencies by stage."""
    return [
        lines(
            "p99 by stage",
            "Where the slow spend their time. Request: a unary call; decode, detect: a picture; queue: the "
            "oldest face of a batch; inference: a batch.",
            [(quantile(0.99, metric), stage) for stage, metric in STAGES.items()],
            "s",
        ),
        lines(
            "p50 by stage",
            "Where the usual ones spend their time.",
            [(quantile(0.5, metric), stage) for stage, metric in STAGES.items()],
            "s",
        ),
        lines(
            "Latency by method",
            "Time from a unary call's arrival to its answer.",
            [
                (quantile(share, "request_seconds_bucket", "method"), f"{{{{method}}}} p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ],
            "s",
        ),
        heatmap("Request time", "All unary calls, by how long they took.", "request_seconds_bucket", "s"),
        heatmap("Queue time", "Wait of each batch's oldest face for the batch.", STAGES["queue"], "s"),
        heatmap("Inference time", "Run of each batch.", STAGES["inference"], "s"),
    ]
