"""Defines the row of the dashboard on versions, engines and processes."""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Final

from panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Panel, lines, timeline

STATES: Final = (
    ("loading", BLUE),
    ("ready", GREEN),
    ("draining", YELLOW),
    ("unloaded", GREY),
    ("failed", RED),
    ("waiting", ORANGE),
)


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
            "Background tasks that failed and were started again, log lines that were dropped, and control calls "
            "that were not authorised.",
            [
                (
                    "sum by (task) (increase(ferserve_background_failures_total[$__rate_interval]))",
                    "failures of {{task}}",
                ),
                ("sum(increase(ferserve_log_lines_dropped_total[$__rate_interval]))", "log lines dropped"),
                (
                    "sum by (reason) (increase(ferserve_control_rejections_total[$__rate_interval]))",
                    "control calls rejected, {{reason}}",
                ),
            ],
            "none",
            width=6,
        ),
    ]
