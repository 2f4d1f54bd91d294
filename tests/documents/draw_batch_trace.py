"""Draws the trace of a batch from a real run: a server process, its engine, and an OTLP receiver.

Two pictures are sent at once, several times; of the turns in which their faces meet in one batch the shortest is
drawn. Writes docs/images/batch-trace.svg. Run with `make trace-picture`.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from ferserve_client import EmotionClient  # noqa: E402
from support.otlp import OtlpReceiver, ReceivedSpan  # noqa: E402 - after the path
from support.pictures import ASTRONAUT  # noqa: E402
from support.server_process import ServerProcess  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ANALYZE = "ferserve.v1.EmotionService/AnalyzeImages"
CALL_COUNT = 2
TURNS = 30
LEFT, WIDTH, ROW, TOP = 210, 640, 22, 44
COLOURS = {
    "decode": "#7aa6c2",
    "detect": "#4f81a8",
    "queue": "#d8a657",
    "inference": "#6a9f58",
    "execute": "#3f7a3a",
}
STAGES = ("decode", "detect", "queue", "inference")


@dataclass(frozen=True)
class Row:
    """Holds one line of the picture: a span, its depth below its trace's root, and its label."""

    span: ReceivedSpan
    depth: int
    label: str


def main() -> None:
    """Runs the server, finds a batch of several calls, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "batch-trace.svg")
    options = parser.parse_args()
    with OtlpReceiver() as receiver:
        flags = ["--model-repo", str(ROOT / "model_repo"), "--default-model", "fer-nano", "--tune", "fixed"]
        with ServerProcess([*flags, "--max-queue-delay-ms", "20"], receiver.environment) as server:
            batch = shared_batch(receiver, server.address)
        options.output.write_text(drawn(list(rows_of(receiver, batch))))


def shared_batch(receiver: OtlpReceiver, address: str) -> ReceivedSpan:
    """Sends pictures at once until the faces of all calls meet in one batch; returns its span."""
    image = ASTRONAUT.read_bytes()
    with EmotionClient(address) as client, ThreadPoolExecutor(CALL_COUNT) as threads:
        for turn in range(1, TURNS + 1):
            list(threads.map(lambda _: client.analyze([image]), range(CALL_COUNT)))
            receiver.wait_for(partial(all_arrived, receiver, turn * CALL_COUNT))
    shared = [span for span in receiver.named("batch") if len(span.links) == CALL_COUNT]
    if not shared:
        raise SystemExit(f"in {TURNS} turns no two faces met in a batch")
    return min(
        shared, key=lambda batch: max(row.span.end_ns - row.span.start_ns for row in rows_of(receiver, batch))
    )


def all_arrived(receiver: OtlpReceiver, call_count: int) -> bool:
    """Returns whether the spans of so many calls are there, and those of their batches."""
    linked = sum(len(batch.links) for batch in receiver.named("batch"))
    return len(receiver.named(ANALYZE)) >= call_count and linked >= call_count


def rows_of(receiver: OtlpReceiver, batch: ReceivedSpan) -> Iterator[Row]:
    """Yields the calls of a batch with their stages, then the batch."""
    members = [span for span in receiver.named("inference") if span.key in batch.links]
    calls = {(s.trace_id, s.span_id): s for s in receiver.named(ANALYZE)}
    for number, member in enumerate(members, 1):
        call = calls[member.trace_id, member.parent_id]
        yield Row(call, 0, f"call {number}: AnalyzeImages")
        children = receiver.children(call)
        for name in STAGES:
            for span in children.get(name, []):
                reason = span.attributes.get("ferserve.dispatch_reason")
                yield Row(span, 1, f"queue ({reason})" if name == "queue" else name)
    yield Row(batch, 0, f"batch of {batch.attributes['ferserve.batch_faces']} faces")
    for span in receiver.children(batch)["execute"]:
        yield Row(span, 1, "execute (engine process)")


def drawn(rows: list[Row]) -> str:
    """Draws spans over time as SVG, with the links between calls and batch."""
    begin = min(row.span.start_ns for row in rows)
    end = max(row.span.end_ns for row in rows)

    def at(time_ns: int) -> float:
        return LEFT + (time_ns - begin) / (end - begin) * WIDTH

    height = TOP + ROW * len(rows) + 34
    size = f'width="{LEFT + WIDTH + 90}" height="{height}"'
    title = f"One batch of two calls: three traces, joined by links ({(end - begin) / 1e6:.1f} ms)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="12" y="22">{title}</text>',
    ]
    places: dict[Any, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        left, right = at(row.span.start_ns), at(row.span.end_ns)
        colour = COLOURS.get(row.span.name, "#555")
        parts.append(f'<text x="{12 + 14 * row.depth}" y="{y + 12}">{escape(row.label)}</text>')
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 2}" width="{max(1.5, right - left):.1f}" height="12" fill="{colour}"/>'
        )
        duration_ms = (row.span.end_ns - row.span.start_ns) / 1e6
        parts.append(f'<text x="{right + 4:.1f}" y="{y + 12}" fill="#555">{duration_ms:.2f} ms</text>')
        places[row.span.key] = ((left + right) / 2, y + 8)
    for row in rows:
        for linked in row.span.links:
            if row.span.name == "batch" and linked in places:
                (x1, y1), (x2, y2) = places[linked], places[row.span.key]
                parts.append(
                    f'<path d="M{x1:.1f},{y1 + 6} L{x2:.1f},{y2 - 6}" stroke="#b03a2e" fill="none" '
                    'stroke-dasharray="4 3"/>'
                )
    parts.append(f'<text x="12" y="{height - 12}" fill="#b03a2e">- - links, in both directions</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
