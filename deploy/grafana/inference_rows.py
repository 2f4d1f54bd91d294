"""Defines the rows of the dashboard on inference: batching and predictions."""  # noqa: INP001 - beside a script

from __future__ import annotations

from typing import Final

from panels import Panel, heatmap, lines
from queries import model_rate, quantile, rate

EMOTION_COLOURS: Final = {
    "angry": "#E02F44",
    "disgust": "#56A64B",
    "fear": "#8F3BB8",
    "happy": "#F2CC0C",
    "sad": "#3274D9",
    "surprise": "#FF780A",
    "neutral": "#8E8E8E",
}


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
            "Faces that wait for a batch, and pictures that wait to be decoded.",
            [
                (
                    f'sum by ({by_version}) (ferserve_queue_depth_faces{{model=~"$model"}})',
                    "{{model}}/{{version}}",
                ),
                ("sum by (instance) (ferserve_queue_depth_images)", "pictures on {{instance}}"),
            ],
            "none",
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
