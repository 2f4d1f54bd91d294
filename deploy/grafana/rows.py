"""Defines the panels of the dashboard, row by row.

Names and labels of metrics are those of server/src/ferserve_server/domain/metrics.py; tests hold both.
"""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Final

from panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Panel, heatmap, lines, number, timeline

SERVER_FAULTS: Final = "INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE|DEADLINE_EXCEEDED"
"""Codes that are the server's fault, as in alerts.yml."""

STATES: Final = (
    ("loading", BLUE),
    ("ready", GREEN),
    ("draining", YELLOW),
    ("unloaded", GREY),
    ("failed", RED),
    ("waiting", ORANGE),
)
EMOTION_COLOURS: Final = {
    "angry": "#E02F44",
    "disgust": "#56A64B",
    "fear": "#8F3BB8",
    "happy": "#F2CC0C",
    "sad": "#3274D9",
    "surprise": "#FF780A",
    "neutral": "#8E8E8E",
}
STAGES: Final = {
    "request": "request_seconds_bucket",
    "queue": 'queue_seconds_bucket{model=~"$model"}',
    "decode": "decode_seconds_bucket",
    "detect": "detect_seconds_bucket",
    "inference": 'inference_seconds_bucket{model=~"$model"}',
    "stream frame": "stream_frame_age_seconds_bucket",
}


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


def batching() -> list[Panel]:
    """Builds the row of batching."""
    size = 'batch_size_faces_bucket{model=~"$model"}'
    padding, faces = model_rate("padding_faces_total", "model"), model_rate("faces_total", "model")
    by_version = "model, version"
    return [
        heatmap("Batch size", "Faces in each batch, padding not counted.", size, "none"),
        lines(
            "Mean and p95 batch size",
            "Bigger batches mean more throughput for the same CPU.",
            [
                (f"{faces} / {model_rate('batches_total', 'model')}", "{{model}} mean"),
                (quantile(0.95, size, "model"), "{{model}} p95"),
            ],
            "none",
        ),
        lines(
            "Batches by cut reason",
            "Why batches were cut. executor_idle: no wait was worth it; full: the largest bucket; bisect: looking "
            "for a face that fails.",
            [(model_rate("batches_total", "dispatch_reason"), "{{dispatch_reason}}")],
            "suffix: /s",
            stack="normal",
        ),
        lines(
            "Padding share",
            "Share of executed rows that were padding up to a warmed bucket.",
            [(f"{padding} / ({padding} + {faces})", "{{model}}")],
            "percentunit",
            width=6,
        ),
        lines(
            "Queue depth",
            "Faces that wait for a batch.",
            [(f'sum by ({by_version}) (ferserve_queue_depth_faces{{model=~"$model"}})', "{{model}}/{{version}}")],
            "suffix: faces",
            width=6,
        ),
        lines(
            "Oldest age in the queue",
            "How long the oldest waiting face has waited.",
            [
                (
                    f'max by ({by_version}) (ferserve_queue_oldest_age_seconds{{model=~"$model"}})',
                    "{{model}}/{{version}}",
                )
            ],
            "s",
            width=6,
        ),
        lines(
            "Busy executors",
            "Batches that ran at once, on average. At the number of executors the engine is the limit.",
            [(model_rate("inference_seconds_sum", "model"), "{{model}}")],
            "none",
            width=6,
        ),
    ]


def predictions() -> list[Panel]:
    """Builds the row of the model's predictions."""
    by_version = "model, version"
    return [
        lines(
            "Predicted classes",
            "Share of each most probable class. A sudden change is another crowd, camera, crop or model.",
            [(model_rate("predictions_total", "emotion"), "{{emotion}}")],
            "none",
            stack="percent",
            colours=EMOTION_COLOURS,
        ),
        lines(
            "Mean confidence",
            "Mean probability of the most probable class, by version.",
            [
                (
                    f"{model_rate('confidence_sum_total', by_version)} / {model_rate('faces_total', by_version)}",
                    "{{model}}/{{version}}",
                )
            ],
            "percentunit",
        ),
        lines(
            "Distance to the day before",
            "How much of the last hour's class mix moved against the day before (a recording rule of alerts.yml).",
            [('model_version:ferserve_predictions:mix_distance{model=~"$model"}', "{{model}}/{{version}}")],
            "percentunit",
        ),
        lines(
            "Faces by version",
            "Faces that were classified, a second. A swap of versions shows here.",
            [(model_rate("faces_total", by_version), "{{model}}/{{version}}")],
            "suffix: /s",
            stack="normal",
        ),
        heatmap("Faces per picture", "Faces found in each picture.", "detected_faces_bucket", "none"),
        lines(
            "Pictures without a face",
            "Share of pictures in which no face was found.",
            [(rate('detected_faces_bucket{le="0.0"}') + " / " + rate("detected_faces_count"), "no face")],
            "percentunit",
        ),
    ]


def models_and_process() -> list[Panel]:
    """Builds the row of models and process resources."""
    group = "instance, model, version"
    states = " + ".join(
        f'{value} * sum by ({group}) (ferserve_servable_state{{model=~"$model", state="{state}"}})'
        for value, (state, _) in enumerate(STATES, 1)
    )
    return [
        timeline(
            "Model versions",
            "The state of each version.",
            (states, "{{model}}/{{version}} on {{instance}}"),
            dict(enumerate(STATES, 1)),
            width=12,
        ),
        timeline(
            "Engines",
            "Whether the engine of each version answers.",
            ('ferserve_engine_healthy{model=~"$model"}', "{{model}}/{{version}} on {{instance}}"),
            {0: ("does not answer", RED), 1: ("answers", GREEN)},
            width=12,
        ),
        lines(
            "Versions served",
            "The version that requests get which name none, and those behind aliases.",
            [
                ('ferserve_model_serving_version{model=~"$model"}', "{{model}} on {{instance}}"),
                ('ferserve_model_alias{model=~"$model"}', "{{model}}:{{alias}} on {{instance}}"),
            ],
            "none",
            width=12,
        ),
        lines(
            "Precision",
            "What each version computes in. Instances that differ have other processors, or measured otherwise.",
            [
                (
                    'ferserve_servable_precision{model=~"$model"}',
                    "{{model}}/{{version}} {{precision}} on {{instance}}",
                )
            ],
            "none",
            width=12,
        ),
        lines(
            "Canary requests",
            "Requests a second of a canary and of the stable version beside it, and the canary's share.",
            [
                (
                    (
                        'sum by (model, version, outcome) (rate(ferserve_canary_requests_total{model=~"$model"}'
                        "[$__rate_interval]))"
                    ),
                    "{{model}}/{{version}} {{outcome}}",
                ),
                ('max by (model) (ferserve_canary_share{model=~"$model"})', "{{model}} share"),
            ],
            "none",
            width=8,
        ),
        lines(
            "Canary verdicts",
            "What the figures said, when that changed.",
            [
                (
                    (
                        'sum by (model, result, reason) (increase(ferserve_canary_verdicts_total{model=~"$model"}'
                        "[$__rate_interval]))"
                    ),
                    "{{model}}: {{result}}, {{reason}}",
                )
            ],
            "none",
            width=8,
        ),
        lines(
            "Shadows",
            "Faces a second that a shadow sees alike, otherwise or not at all, and how far off it is.",
            [
                (
                    (
                        "sum by (model, version, outcome) "
                        '(rate(ferserve_canary_shadow_faces_total{model=~"$model"}'
                        "[$__rate_interval]))"
                    ),
                    "{{model}}/{{version}} {{outcome}}",
                ),
                (
                    'max by (model, version, statistic) (ferserve_canary_shadow_difference{model=~"$model"})',
                    "{{model}}/{{version}} {{statistic}} difference",
                ),
            ],
            "none",
            width=8,
        ),
        lines(
            "CPU",
            "Cores that the process uses.",
            [('rate(process_cpu_seconds_total{job="ferserve"}[$__rate_interval])', "{{instance}}")],
            "suffix: cores",
            width=6,
        ),
        lines(
            "Resident memory",
            "Memory of the server's process and of its engines. It should be flat once the models are loaded.",
            [
                ('process_resident_memory_bytes{job="ferserve"}', "{{instance}}"),
                ('ferserve_engine_resident_bytes{model=~"$model"}', "{{model}}/{{version}} on {{instance}}"),
            ],
            "bytes",
            width=6,
        ),
        lines(
            "File descriptors",
            "Open ones: each connection takes one.",
            [('process_open_fds{job="ferserve"}', "{{instance}}")],
            "none",
            width=6,
        ),
        lines(
            "Releases",
            "Servers that run, by release.",
            [("count by (version) (ferserve_build_info)", "{{version}}")],
            "none",
            width=6,
            stack="normal",
        ),
        lines(
            "Worker processes",
            "Worker processes that accept calls, and how many ended unexpectedly.",
            [
                ("sum(ferserve_worker_processes)", "running"),
                ("sum(increase(ferserve_worker_restarts_total[$__rate_interval]))", "replaced"),
            ],
            "none",
            width=6,
        ),
        lines(
            "Engines lost",
            "Engine processes that ended unasked and were started again; the log says how they ended.",
            [
                (
                    (
                        'sum by (model, version) (increase(ferserve_engine_restarts_total{model=~"$model"}'
                        "[$__rate_interval]))"
                    ),
                    "{{model}}/{{version}}",
                )
            ],
            "none",
            width=6,
        ),
        lines(
            "Faults inside the server",
            "Background tasks that failed and were started again, and log lines that were dropped.",
            [
                (
                    "sum by (task) (increase(ferserve_background_failures_total[$__rate_interval]))",
                    "failures of {{task}}",
                ),
                ("sum(increase(ferserve_log_lines_dropped_total[$__rate_interval]))", "log lines dropped"),
            ],
            "none",
            width=6,
        ),
    ]
